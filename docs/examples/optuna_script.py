"""A space and a strategy of nas in an Optuna script of your own: accuracy against size on the digits, a CPU minute."""

import sys

import optuna

import nas
from nas.train import Recipe, fit, load_data, seed_everything

space = nas.load_space("nasnet_cell")
data = load_data("digits").sealed()
size = nas.Size(width=0.25, depth=1 / 6, input=data.input_shape, num_classes=data.num_classes)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    graph = nas.lower(space.suggest(trial), size)
    with seed_everything(0):
        network = nas.build(graph)
    return fit(network, data, Recipe(epochs=2, batch_size=64)).val_accuracy, graph.num_params


if __name__ == "__main__":
    sampler = nas.samplers.RegularizedEvolutionSampler(space, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    for trial in study.best_trials:
        print(f"trial {trial.number}: {trial.values[0]:.1%}, {trial.values[1]:,.0f} parameters")

"""A space and a strategy of nas in a Tuner of your own: the most accurate network on the digits."""

import sys

from ray import tune

import nas
from nas.search.tune import NasSearcher
from nas.train import Recipe, fit, load_data, seed_everything

space = nas.load_space("nasnet_cell")


def train(config: dict) -> None:
    data = load_data("digits").sealed()
    size = nas.Size(width=0.25, depth=1 / 6, input=data.input_shape, num_classes=data.num_classes)
    with seed_everything(0):
        network = nas.build(nas.lower(space.architecture(config["architecture"]), size))
    fit(network, data, Recipe(epochs=config["epochs"], batch_size=64),
        on_epoch=lambda epoch: tune.report({"accuracy": epoch.val_accuracy}))


if __name__ == "__main__":
    how = tune.TuneConfig(search_alg=NasSearcher(space, strategy="regularized_evolution"), metric="accuracy", mode="max",
                          num_samples=int(sys.argv[1]) if len(sys.argv) > 1 else 20, max_concurrent_trials=2)
    best = tune.Tuner(train, param_space={"epochs": 2}, tune_config=how).fit().get_best_result()
    print(f"{best.metrics['accuracy']:.1%}")

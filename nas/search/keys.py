"""The keys of ``nas search`` and what they mean. Imports nothing, so that the help is quick."""

KEYS = {
    "space": "search space: a name that `nas spaces` lists, or a YAML file",
    "data": "digits, cifar10, a folder of class folders, an .npz file, hf:NAME, package.module:function",
    "budget": "how much to spend: 3min, 2h, 50trials, 2cpuh, 100gpuh, or several: 100gpuh,24h",
    "objectives": "what to optimise, comma-separated: accuracy, latency, num_params, macs (default accuracy,latency)",
    "constraint": 'a hard limit such as "latency<=3ms" or "num_params<=1M"; may be given several times',
    "strategy": "how to search (default auto): random, regularized_evolution, tpe, nsga2, surrogate",
    "target": "where latency is measured: cpu, cuda; on Ray also cuda@H200, or resource:NAME for nodes that have it (default: "
              "the training device)",
    "engine": "where trials run: local (this machine, and those that join it) or ray (default local)",
    "address": "of engine=ray: auto, ray://HOST:PORT, HOST:PORT, or local for a Ray of its own (default auto)",
    "endpoint": "HOST:PORT on which `nas worker` may join this search; loopback unless HOST says otherwise",
    "workers": "trials at a time (default: as many as the devices have room for)",
    "gpus_per_trial": "GPUs a trial holds: 0.5 for two trials on a GPU, 2 for two GPUs each (default 1 where there are any)",
    "cpus_per_trial": "CPU cores a trial holds (default: its share of the machine; on Ray 1)",
    "trial_timeout": "a trial that says nothing for this long is ended: 10min, 1h (default: by the planned epoch)",
    "epochs": "epochs a candidate is trained (default: what the budget allows)",
    "batch_size": "training batch size (default: by data and device)",
    "seed": "seed of everything that is drawn (default 0)",
    "deploy": "size of the network to deploy: repeats=6,filters=32 or width=1.0,depth=1.0,input=3x32x32,batch=1",
    "proxy": "size of the network that the search trains (same words as deploy)",
    "run": "the run's name under results/, or a path; an existing run is continued",
    "storage": "where the study is kept: by default a file in the run's folder; or sqlite:///..., postgresql://...",
    "plugins": "operations of your own: my_ops.py, or an installed entry point of nas.ops; may be given several times",
    "config": "a YAML file with any of these keys",
}

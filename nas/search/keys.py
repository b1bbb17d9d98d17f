"""The keys of ``nas search`` and what they mean. Imports nothing, so that the help is quick."""

KEYS = {
    "space": "search space: a name that `nas spaces` lists, or a YAML file",
    "data": "digits, cifar10, cifar100, fashion_mnist, mnist, a folder of class folders or of idx files, "
            "an .npz file, hf:NAME, package.module:function",
    "image_size": "scale images to so many pixels a side; needed where a folder's differ in size (default: as they are)",
    "budget": "how much to spend: 3min, 2h, 50trials, 2cpuh, 100gpuh, or several: 100gpuh,24h",
    "objectives": "what to optimise, comma-separated: accuracy, latency, latency_p95, throughput, memory, weight_bytes, energy, "
                  "num_params, macs, or a product such as accuracy*(latency/3ms)^-0.07 (default accuracy,latency)",
    "constraint": 'a hard limit such as "latency<=3ms" or "num_params<=1M"; may be given several times',
    "strategy": "how to search (default auto): random, regularized_evolution, non_aging_evolution, "
                "hierarchical_evolution, local_search, rl, reinforce, pnas, nao, tpe, nsga2, surrogate",
    "runtime": "what latency is measured by: eager, compile, onnxruntime, openvino or tensorrt (default: what runs the first of "
               "formats: onnxruntime for onnx, else eager)",
    "target": "where latency is measured: cpu, cuda; http://HOST:PORT or ssh://USER@HOST (`nas measure-server`); on Ray also "
              "cuda@H200, or resource:NAME for nodes that have it (default: the training device)",
    "latency_table": "a table that `nas latency-table` wrote of this space at the deployed size under these conditions: what is "
                     "surely over a limit is known by it from the first candidate on",
    "engine": "where trials run: local (this machine, and those that join it) or ray (default local)",
    "address": "of engine=ray: auto, ray://HOST:PORT, HOST:PORT, or local for a Ray of its own (default auto)",
    "endpoint": "HOST:PORT on which `nas worker` may join this search; loopback unless HOST says otherwise",
    "workers": "trials at a time (default: as many as the devices have room for)",
    "gpus_per_trial": "GPUs a trial holds: 0.5 for two trials on a GPU, 2 for two GPUs each (default 1 where there are any)",
    "cpus_per_trial": "CPU cores a trial holds, and threads it has (default 1; beside a GPU its share of the cores)",
    "train_on": "of engine=ray: nodes that trials run on, H200 (a type of GPU) or resource:NAME (default: any with room)",
    "trial_timeout": "a trial that says nothing for this long is ended: 10min, 1h (default: by the planned epoch)",
    "epochs": "epochs a candidate is trained (default: what the budget allows)",
    "batch_size": "training batch size (default: by data and device)",
    "seed": "seed of everything that is drawn (default 0)",
    "early_stopping": "none (default), or asha: most candidates are trained for a few epochs, the better third of them goes on",
    "baseline": "share of the candidates that is drawn at random, to compare with (default 10%; 0 for none)",
    "repeats": "share of the budget to measure the front again and train its best with other seeds (default 5%; 0 for none)",
    "peers": "published networks trained and measured the same way, to compare with: 2, 10% (of the budget) or 2,10% (default 0)",
    "final": "train the best of the front at deployed size and export it: 3 (networks), 20% (of the budget) or 3,20% (default 0)",
    "recipe": "of the final training: cifar (default), imagenet, efficientnet_v2, quick, or a YAML file; fitted to the time",
    "formats": "of the exported networks: py, and any of onnx, pt2, safetensors (default py)",
    "deploy": "size of the network to deploy: repeats=6,filters=32 or width=1.0,depth=1.0,input=3x32x32,batch=1",
    "proxy": "size of the network that the search trains (same words as deploy)",
    "run": "the run's name under results/, or a path; an existing run is continued",
    "storage": "where the study is kept: by default a file in the run's folder; or sqlite:///..., postgresql://...",
    "log": "where else trials are logged: tensorboard, mlflow, wandb; comma-separated",
    "plugins": "operations of your own: my_ops.py, or an installed entry point of nas.ops; may be given several times",
    "config": "a YAML file with any of these keys",
}

"""What the site generates while it is built: the commands' own help and the tables of the registries, so that neither can be old."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def commands() -> str:
    """Every command with its help, as argparse prints it."""
    from study.cli import build_parser

    (choices,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    parts = []
    for name, parser in choices.choices.items():
        parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
        text = parser.format_help().split("\nexit codes:")[0].rstrip()
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def tables() -> str:
    """Methods, scorers, signals, oracles and questions."""
    from study import reference

    return "\n\n".join(f"## {kind.capitalize()}\n\n{getattr(reference, kind + '_table')()}" for kind in (
        "methods", "scorers", "signals", "oracles", "questions"))


MEANINGS = {
    "name": "the study's name, and that of its folder",
    "methods": "a list of names, your own as `module:name` among them; or `\"all\"`",
    "plugins": "further objects whose plain names are used elsewhere, `module:name`; a network or source as `network=module:name`, `source=module:name`",
    "data.source": "what is read: digits, folder, npz, cifar10, cifar100, fashion_mnist, or your own",
    "data.path": "where its files lie; needed for all but digits",
    "data.nominal_classes": "a number drawn by the split's seed, a list of names or indices, or `osr`, the open-set field's five splits of CIFAR-10",
    "data.anomaly_classes": "`rest`, a list, or `[]` for none: search, freeze and export work without",
    "data.rare": "what becomes of classes that are too small: `error`, `drop` (left out), `anomaly`",
    "data.rare_below": "images; fewer make a class rare. 0: only what cannot be split",
    "data.group": "photos of one specimen stay in one part: a regex with one group, searched in the file name, or a CSV of `path,group`",
    "data.partition": "`pooled`: 60/20/20 of all images; `official`: the data set's own test part",
    "data.limit": "at most so many images of each class; 0: all",
    "data.download": "let torchvision fetch a missing data set",
    "data.image_size": "side in pixels to which images are brought; 0: as they are",
    "data.flips_keep_labels": "whether a mirror image keeps its label; unset: the source knows",
    "data.rotations_keep_labels": "whether a turned image does",
    "data.splits": "seeds of the divisions; one sub-study for each method and split",
    "data.seeds": "the search uses the first; the frozen configuration is trained again for the others",
    "training.network": "see the list of networks",
    "training.epochs": "passes over the training images",
    "training.early_stopping": "false: model and signals are the last epoch's; true: those of the epoch of the best val_accuracy",
    "training.batch_size": "images a step",
    "training.sampler": "`uniform`: each image once an epoch; `balanced`: each class equally often",
    "training.precision": "`auto`: bfloat16 on CUDA, float32 on a CPU; `bfloat16` is faster on CPUs with AMX, `float32` exact anywhere",
    "training.pretrained": "a local file of weights for the encoder to start from: safetensors or a state dict",
    "training.freeze_backbone": "leave these weights as they are",
    "search.trials": "of each method and split, the default configuration first",
    "search.sampler": "tpe, random, gp, cmaes, or the name of a class of `optuna.samplers`",
    "search.sampler_options": "of that class",
    "search.pruner": "`none`, `successive_halving`, `median`; only for methods whose record says that pruning is safe",
    "search.max_concurrent": "trials at a time; 0: as many as fit; 1: sequential, bit for bit reproducible",
    "search.warm_start": "the folder of an earlier study: its nominal signals as history for the sampler",
    "search.enqueue": "`[[search.enqueue]]`: known configurations, tried right after the default",
    "search.posthoc": "`[search.posthoc.<scorer>]`: ranges for scorers' own parameters, settled on cached validation logits",
    "search.space": "`[search.space.<method>]`: narrow, widen, fix or list a parameter",
    "selection.signal": "picks the trial; any signal of one trial",
    "selection.finalists": "above 1: also trials within a standard error of the best, chosen among by `scorer_signal`",
    "selection.folds": "fold models of each finalist; 0: none, and then a rule that needs none",
    "selection.fold_trials": "`finalists`, `all` or a list of methods: who gets fold models",
    "selection.scorers": "the scorers to choose among; empty: the default set and the method's own",
    "selection.scorer_signal": "what ranks scorers",
    "selection.scorer_rule": "how they become one: `top_half_mean`, `best`, `top3_mean`, `all_mean`, `family_mean`, `ecdf_mean`, `fisher_sum`, `fisher_family`, or a scorer's name",
    "resources.cpus_per_trial": "cores, and threads, of a trial",
    "resources.gpus_per_trial": "share of a card where there are GPUs, its memory enforced; or `auto`, measured",
    "resources.address": "`auto`: the cluster of RAY_ADDRESS or of `ray start`, else a local one; `local`; or host:port",
    "resources.ledger": "a storage URL, such as `postgresql+psycopg://me@db/oraclegap`; empty: SQLite in the study's folder",
    "analysis.questions": "`all`, or a list: what is asked after the reveal",
    "analysis.scorers": "measured beside those in use; decide nothing",
    "analysis.oracles": "beside the forest and the linear probe",
    "analysis.course": "points along a repeated training of each selected configuration; 0: none",
}
MAY_CHANGE_WORDS = "may differ between two launches of one study"


def spec() -> str:
    """Every key of a spec with its default and meaning. KeyError for one that has none, and so no build without it."""
    import json

    from study.spec import MAY_CHANGE, StudySpec

    parts, meanings = [], dict(MEANINGS)
    tables = {"": StudySpec} | {name: field.annotation for name, field in StudySpec.model_fields.items()
                                if hasattr(field.annotation, "model_fields")}
    for table, model in tables.items():
        lines = [f"## [{table}]" if table else "## The top", "", "| key | default | meaning |", "|---|---|---|"]
        for key, field in model.model_fields.items():
            name = f"{table}.{key}" if table else key
            if key in tables or key == "overrides":
                continue
            needed = field.is_required()
            default = "needed" if needed else "unset" if field.default is None else f"`{json.dumps(field.default)}`"
            free = f"; *{MAY_CHANGE_WORDS}*" if MAY_CHANGE.fullmatch(name) else ""
            lines.append(f"| `{key}` | {default} | {meanings.pop(name)}{free} |")
        parts.append("\n".join(lines))
    if meanings:
        raise KeyError(f"no such keys any more: {', '.join(meanings)}")
    return "\n\n".join(parts)


def spec_block() -> str:
    """The commented spec of the README."""
    return re.search(r"## A spec\n\n(```toml\n.*?```)", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def deploy_files() -> str:
    """What `deploy/` holds, and how far it was tried."""
    return re.search(r"(\| file \| for .*)", (ROOT / "deploy" / "README.md").read_text(), re.DOTALL)[1]


def notebook() -> str:
    """The executed notebook: its text, its code and what each cell showed."""
    import json

    cells = json.loads((ROOT / "docs" / "notebooks" / "first_study.ipynb").read_text())["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"^# .*\n", "", text))
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![what the cell above drew](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif "text/html" in data:
                html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(re.sub(r"\n\s*", "", html))
            else:
                parts.append(f"```text\n{''.join(data.get('text/plain', output.get('text', []))).rstrip()}\n```")
    return "\n\n".join(parts)


GENERATED = {"notebook": notebook, "spec_block": spec_block, "deploy_files": deploy_files, "spec": spec, "commands": commands, "tables": tables}


def on_page_markdown(markdown: str, **_) -> str:
    """MkDocs calls this for every page: ``<!-- generated: NAME -->`` becomes what that name generates."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), markdown)

"""The commands around a study: look at a folder, at a cluster, and put an exported detector to use."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from study.errors import EXIT_DONE, EXIT_ENVIRONMENT, EXIT_USER


def add_to(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds them; ``command(name, run, text)`` makes a parser."""
    sub = command("init", _init, "look at a folder of images and write a commented spec that runs on it")
    sub.add_argument("folder", metavar="FOLDER", help="FOLDER/<class>/*.jpg, or FOLDER/{train,test}/<class>/*.jpg")
    sub.add_argument("--anomaly", action="append", default=[], metavar="CLASS", help="a class to be noticed, not learned; may be repeated")
    sub.add_argument("--name", default="", help="the study's name (default: the folder's)")
    sub.add_argument("--out", default="", metavar="FILE", help="default: <name>.toml")
    sub = command("export", _export, "write the frozen best configuration, model and detector")
    sub.add_argument("study", metavar="STUDY", help="a study's folder, such as runs/digits")
    sub.add_argument("--method", help="default: the method that freeze ranked first")
    sub.add_argument("--split", type=int, help="default: the study's first")
    sub.add_argument("--onnx", action="store_true", help="with model.onnx: uint8 images to logits, z and anomaly_score")
    sub.add_argument("--register", metavar="NAME", help="log it to the study's MLflow, as the next version of the model NAME")
    sub.add_argument("--alias", help="let this alias, such as champion, point at that version")
    sub = command("detect", _detect, "name the class of images, or say that they belong to none, by an exported detector")
    sub.add_argument("export", metavar="EXPORT", help="the folder that `oraclegap export` wrote")
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, or - for a list of paths on standard input")
    sub.add_argument("--format", choices=("table", "csv", "json"), help="default: a table on a terminal, else JSON lines")
    sub.add_argument("--threshold", type=float, metavar="SCORE", help="call anomalous what scores above it")
    sub.add_argument("--acceptance", type=float, metavar="SHARE",
                     help="instead: the threshold that accepts this share of the study's nominal validation images (0.95)")
    sub.add_argument("--plugin", action="append", default=[], metavar="MODULE:NAME", help="a plug-in that the export may run")
    sub = command("doctor", _doctor, "check whether a study can run here, and on every node of the cluster")
    sub.add_argument("spec", nargs="?", metavar="SPEC", help="look at this spec's cluster and ledger")
    sub.add_argument("--address", help="look at this Ray cluster (default: the spec's, or one that runs here)")
    sub.add_argument("--root", default="runs", help="where studies lie (default: runs)")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _init(options: argparse.Namespace) -> int:
    from study.init import seen_text, write_spec

    path, seen = write_spec(options.folder, name=options.name, anomalies=options.anomaly, out=options.out)
    print(seen_text(seen, path))
    return EXIT_DONE


def _doctor(options: argparse.Namespace) -> int:
    import json

    from study.doctor import doctor, doctor_text
    from study.spec import StudySpec

    spec = StudySpec.load(options.spec) if options.spec else None
    found = doctor(spec, root=options.root, address=options.address)
    print(json.dumps(found, indent=1) if options.json else doctor_text(found))
    return EXIT_DONE if found["well"] else EXIT_ENVIRONMENT


def _export(options: argparse.Namespace) -> int:
    from study.api import Study
    from study.errors import UserError

    if options.alias and not options.register:
        raise UserError("--alias: names a version of a registered model; give --register NAME as well")
    study = Study.open(options.study)
    path = study.export(options.method, split=options.split, onnx=options.onnx)
    print(f"exported to {path}: {', '.join(sorted(file.name for file in path.iterdir()))}")
    if options.onnx:
        without = _record(path)["onnx"]["without_score"]
        print(f"model.onnx holds logits and z, no anomaly_score: {without}" if without else
              "model.onnx: images to logits, z and anomaly_score")
    if options.register:
        from study.register import register

        made = register(study.folder, path, name=options.register, alias=options.alias)
        print(f"registered {made.name}, version {made.version}: {made.uri}"
              + (f", also models:/{made.name}@{made.alias}" if made.alias else ""))
    return EXIT_DONE


def _record(export) -> dict:
    import json

    return json.loads((export / "detector.json").read_text())


def _detect(options: argparse.Namespace) -> int:
    import math

    from study.detect import detect, image_paths
    from study.detector import OpenSetDetector
    from study.errors import UserError

    if options.threshold is not None and (options.acceptance is not None or not math.isfinite(options.threshold)):
        raise UserError("--threshold: give a finite score, and not --acceptance as well")
    detector = OpenSetDetector.load(options.export, allowed_plugins=options.plugin)
    if options.acceptance is not None:
        detector.accept(options.acceptance)
    if options.threshold is not None:
        detector.threshold_ = options.threshold
    sys.stdout.reconfigure(errors="surrogateescape")  # a file's name is bytes, and is handed on as it is
    form = options.format or ("table" if sys.stdout.isatty() else "json")
    bad = detect(detector, image_paths(options.images, sys.stdin), form=form, progress=sys.stderr.isatty())
    return EXIT_USER if bad else EXIT_DONE

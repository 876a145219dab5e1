"""The command line: `kdl train <recipe>`, `kdl list`, `kdl warmup`, `kdl doctor`, `kdl bench`.

Each command imports what it needs when it is run, so that `kdl --help` answers at once.
"""
import argparse
import difflib
import importlib
import sys
from pathlib import Path

import kdl
from kdl import recipes


def main(argv=None):
    """Run one command; the exit code: 0 fine, 1 the job's own verdict, 2 wrong use or bad input, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = _parser(argv).parse_args(argv)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nkdl: interrupted; --resume FILE continues from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if options.traceback:
            raise
        print(f"kdl: {error}", file=sys.stderr)
        return 2


def _parser(argv):
    parser = argparse.ArgumentParser(prog="kdl", description=kdl.__doc__)
    parser.add_argument("--version", action="version", version=f"kdl {kdl.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(metavar="command", required=True)

    train = commands.add_parser("train", help="train a system on real data", description=(
        "Train a system on real data, with pictures, a checkpoint and a verdict; `kdl train RECIPE --help` has the "
        "options of one, `kdl list` says what each is, `kdl train --all --out docs` trains all and writes a gallery."))
    train.add_argument("--all", action="store_true", help="train every recipe, and write gallery.md into --out")
    train.add_argument("--out", metavar="DIR", default="runs", help="where the gallery goes (default runs)")
    train.set_defaults(run=lambda options: _train_all(options, train))
    subparsers = train.add_subparsers(metavar="recipe", help=", ".join(recipes.names()))
    for name in recipes.names():
        _add_recipe(subparsers, name, chosen=name in argv)
    _refuse_unknown_recipe(train, argv)

    listing = commands.add_parser("list", help="list the recipes", description="List the recipes.")
    listing.set_defaults(run=_list)

    warmup = commands.add_parser("warmup", help="compile what a model needs before it is needed", description=(
        "Compile the CPU kernels that a model needs, at one training step and one evaluation with example inputs and "
        "the threads at hand. They are kept on disk, so that the first step of a later program takes less than a "
        "second. A kernel has variants for other dtypes, layouts and sizes: these are compiled when they are needed."))
    warmup.add_argument("name", nargs="*", help="models in lower case (lenet5, resnet18, gpt, ...), or recipes, which "
                                                "are run for one epoch (default: lenet5 mlp)")
    warmup.set_defaults(run=_warmup)

    doctor = commands.add_parser("doctor", help="say what works on this machine, and why the rest does not",
                                 description="Check the installation. The exit code is 1 when something is wrong.")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of a table")
    doctor.set_defaults(run=_doctor)

    _add_bench(commands)
    return parser


def _add_recipe(subparsers, name, chosen):
    """The options of a recipe: its own, known once its module is imported, and those that all share."""
    if not chosen:
        subparsers.add_parser(name)
        return
    from kdl.recipes.common import settings_of
    recipe = importlib.import_module(f"kdl.recipes.{name}")
    parser = subparsers.add_parser(name, description=recipe.__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    for setting, (default, text, *more) in settings_of(recipe).items():
        kind = {} if default is None or isinstance(default, str) else {"type": type(default)}
        parser.add_argument(f"--{setting.replace('_', '-')}", help=text + ("" if default is None else
                            f" (default {default})"), **kind | (more[0] if more else {}))
    if getattr(recipe, "EPOCHS", None):
        parser.add_argument("--epochs", type=int, metavar="N", help=f"passes over the data (default {recipe.EPOCHS})")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:<index>")
    parser.add_argument("--seed", type=int, help="of the split, the first weights and the order (default 0)")
    parser.add_argument("--out", metavar="DIR", help=f"where pictures and checkpoint go (default runs/{name})")
    parser.add_argument("--resume", metavar="FILE", help="continue from this checkpoint")
    parser.set_defaults(run=lambda options: _train(name, recipe, options))


def _train(name, recipe, options):
    from kdl.recipes.common import Job, settings_of
    given = {setting: value for setting in ("seed", *settings_of(recipe))
             if (value := getattr(options, setting)) is not None}
    job = Job(name, recipe, given, getattr(options, "epochs", None), options.device, options.out, options.resume)
    return job.judge(*recipe.run(job))


def _train_all(options, parser):
    if not options.all:
        parser.error("which recipe? `kdl list` names them; --all trains every one")
    from kdl.recipes import gallery
    return gallery.train_all(options.out)


def _add_bench(subparsers):
    bench = subparsers.add_parser("bench", help="measure the kernels against NumPy and torch", description=(
        "Check every row against the float64 reference, then time it against its rivals, in turn. The exit code is 1 "
        "when a gate is missed or, with --compare, when a row became slower."))
    bench.add_argument("family", nargs="*", help="gemm, conv, pool, ...; all by default")
    bench.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    bench.add_argument("--threads", type=int, nargs="+", metavar="N", help="on the CPU (default: 1, then all cores)")
    bench.add_argument("--rivals", type=lambda text: text.split(","), metavar="NAMES",
                       help="of numpy, torch, cupy (default: numpy,torch on the CPU, torch,cupy on a GPU)")
    bench.add_argument("--quick", action="store_true", help="the first row of every function, and little time")
    bench.add_argument("--seconds", type=float,
                       help="of each variant of a row (default 0.3, on a GPU 0.1; with --quick 0.03)")
    bench.add_argument("--within", type=float, metavar="SECONDS", help="begin no row after that time")
    bench.add_argument("--out", metavar="DIR", help="write results.json, results.csv and the plots there")
    bench.add_argument("--add", action="store_true", help="keep the rows already in --out that are not measured anew")
    bench.add_argument("--gates", action="store_true", help="judge the results by the table of gates")
    bench.add_argument("--readme", action="store_true", help="write the table of benchmarks/README.md anew")
    bench.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="measure nothing: compare two results")
    bench.set_defaults(run=_bench)


def _refuse_unknown_recipe(parser, argv):
    asked = [word for word in argv[argv.index("train") + 1:] if not word.startswith("-")] if "train" in argv else []
    if asked and "--all" not in argv and asked[0] not in recipes.names():
        near = difflib.get_close_matches(asked[0], recipes.names(), cutoff=0.5) or recipes.names()
        parser.error(f"there is no recipe {asked[0]!r}; did you mean {' or '.join(near)}?")


def _list(options):
    for name in recipes.names():
        summary = importlib.import_module(f"kdl.recipes.{name}").__doc__.strip().splitlines()[0]
        print(f"{name:{max(map(len, recipes.names()))}}  {summary}")
    return 0


def _warmup(options):
    from kdl import warmup
    return warmup.main(options.name)


def _doctor(options):
    from kdl import doctor
    return doctor.main(as_json=options.json)


def _bench(options):
    root = Path(kdl.__file__).parent.parent
    if not (root / "benchmarks" / "command.py").is_file():
        raise RuntimeError("bench: the benchmarks are not part of the installed package; get the source, then run "
                           "`make bench` in it")
    sys.path.insert(0, str(root))
    from benchmarks import command
    return command.main(options)

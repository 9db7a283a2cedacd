"""Runs an implementation of decode context parallelism against the corpus, and names the mistakes that it shows.

    python3 corpus/run_pytorch.py                      the reference beside it, pytorch_reference.py
    python3 corpus/run_pytorch.py --module mine.py     yours: a Python file with functions named like the ops

Ops that the module does not have, and cases for which it raises NotImplementedError, are skipped, and counted. The exit
code is 0 when all others pass, 1 when one fails, 2 when the corpus is damaged, the module cannot be read, or nothing
ran. Needs torch and safetensors.
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import sys
import traceback

import torch
from safetensors.torch import load

NEAR = 3


class DamagedCorpus(Exception):
    pass


def read_corpus(folder):
    """The manifest, and the tensors of its files by name."""
    manifest = json.loads((folder / "manifest.json").read_text())
    if (manifest.get("format"), manifest.get("version")) != ("lockstep-dcp-corpus", 1):
        raise DamagedCorpus(f"{folder}: expected a manifest of format lockstep-dcp-corpus, version 1")
    if manifest["case_count"] != len(manifest["cases"]):
        raise DamagedCorpus(f"{folder}: expected {manifest['case_count']} cases, found {len(manifest['cases'])}")
    files = {}
    for name, sums in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedCorpus(f"{path}: expected this file of the corpus, found none")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sums["sha256"]:
            raise DamagedCorpus(f"{path}: expected SHA-256 {sums['sha256']}: the file is damaged")
        files[name] = load(data)
    return manifest, files


def read_module(path):
    if not path.is_file():
        raise FileNotFoundError(f"--module must be a Python file, but {path} is none")
    # What lies beside it can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distance(actual, expected, tolerance):
    """The largest error, in tolerances; inf for another shape, or where only one is NaN."""
    if not isinstance(actual, torch.Tensor) or actual.shape != expected.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    x, y = actual.detach().cpu().double(), expected.double()
    same = (x == y) | (torch.isnan(x) & torch.isnan(y))
    error = (x - y).abs() / (tolerance["atol"] + tolerance["rtol"] * y.abs())
    error = torch.where(torch.isnan(error), torch.full_like(error, float("inf")), error)
    return float(torch.where(same, torch.zeros_like(error), error).max())


def distances(result, tensors, outputs, names, tolerances):
    """How far each output is from the tensors of these names, in tolerances."""
    return {
        part: distance(result.get(part), tensors[names[part]], tolerances[output["tolerance"]])
        for part, output in outputs.items()
    }


def mistakes_of(case, result, tensors, tolerances):
    """The mistakes whose results are nearest to what came, if any is near."""
    nearest, least = [], NEAR
    for wrong in case["wrong"]:
        away = max(distances(result, tensors, case["outputs"], wrong["outputs"], tolerances).values())
        if away <= least:
            nearest, least = wrong["mistakes"], away
    return nearest


def run_case(case, op, tensors, tolerances):
    """What is wrong, as a text (None when nothing is), and the mistakes that it looks like."""
    inputs = {name: tensors[tensor].clone() for name, tensor in case["inputs"].items()}
    if "refuse" in case:
        try:
            op(dict(case["parameters"]), inputs)
        except NotImplementedError:
            raise
        except Exception:
            return None, []
        return f"expected an exception: {case['refuse']}", ["bad-input-taken"]
    try:
        result = op(dict(case["parameters"]), inputs)
    except NotImplementedError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({pathlib.Path(where.filename).name}:{where.lineno})", []
    names = {part: output["tensor"] for part, output in case["outputs"].items()}
    if not isinstance(result, dict) or set(result) != set(names):
        return f"expected tensors named {', '.join(names)}", []
    off = distances(result, tensors, case["outputs"], names, tolerances)
    parts = [part for part, away in off.items() if not away <= 1]
    if not parts:
        return None, []
    problem = f"{', '.join(parts)} off by {max(off.values()):.3g} tolerances"
    return problem, mistakes_of(case, result, tensors, tolerances)


def loosened(tolerances, factor):
    """The tolerances times a factor, but for those of what is exact."""
    return {
        name: {"atol": tolerance["atol"] * factor, "rtol": tolerance["rtol"] * factor}
        for name, tolerance in tolerances.items()
    }


def print_skipped(skipped, module):
    """`skipped`: how many cases of each op."""
    for why, is_there in (("no function of the name in the module", False), ("NotImplementedError", True)):
        ops = [f"{op} ({count})" for op, count in skipped.items() if hasattr(module, op) == is_there]
        if ops:
            print(f"skipped, {why}: {', '.join(ops)}")


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", type=pathlib.Path, default=here / "pytorch_reference.py")
    parser.add_argument("--corpus", type=pathlib.Path, default=here)
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--verbose", action="store_true", help="a line for each case that passes, too")
    parser.add_argument(
        "--loosen", type=float, default=1, metavar="N", help="tolerances times N, as 1000 for kernels of 16 bits"
    )
    options = parser.parse_args()
    try:
        manifest, files = read_corpus(options.corpus)
        module = read_module(options.module)
    except (DamagedCorpus, OSError, ValueError, KeyError) as error:
        print(f"run_pytorch: {error}", file=sys.stderr)
        return 2
    tolerances = loosened(manifest["tolerances"], options.loosen)
    passed, failed, skipped, shown = 0, 0, {}, {}
    for case in manifest["cases"]:
        if not case["name"].startswith(options.only):
            continue
        op = getattr(module, case["op"], None)
        try:
            if op is None:
                raise NotImplementedError
            problem, mistakes = run_case(case, op, files[case["file"]], tolerances)
        except NotImplementedError:
            skipped[case["op"]] = skipped.get(case["op"], 0) + 1
            continue
        if problem is None:
            passed += 1
            if options.verbose:
                print(f"ok   {case['name']}")
            continue
        failed += 1
        for mistake in mistakes:
            shown[mistake] = shown.get(mistake, 0) + 1
        print(f"FAIL {case['name']}  {problem}{'  looks like ' + ' or '.join(mistakes) if mistakes else ''}")
    if shown:
        print("\nMistakes that it looks like:")
        for mistake, count in sorted(shown.items(), key=lambda item: -item[1]):
            print(f"  {mistake} ({count}): {manifest['mistakes'][mistake]}")
    print_skipped(skipped, module)
    print(f"{passed} passed, {failed} failed, {sum(skipped.values())} skipped")
    if passed + failed == 0:
        print("run_pytorch: nothing ran: expected functions named like the ops", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

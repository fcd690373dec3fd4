"""Metrics of runs as TensorBoard reads them: `python -m fastmax.tensorboard RUN_DIR... --out DIR`.

The program's `fastmax export tensorboard` calls this. It needs the package tensorboard.
"""

import argparse
import json
import os
import pathlib
import sys

FILE = "events.out.tfevents.0.fastmax"  # TensorBoard looks for "tfevents"


def read_metrics(run):
    """The lines of a run's metrics.jsonl; a last line that broke off is left out."""
    text = (run / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def export(run, folder):
    """Writes the metrics of the run directory `run` into `folder`, replacing what an earlier export wrote there.

    Every number of a line but its step is a scalar of that name. Wall times are such that the run ended when its metrics were
    last written, so that TensorBoard's relative times are seconds of training. Returns the number of lines.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    run, folder = pathlib.Path(run), pathlib.Path(folder)
    lines = read_metrics(run)
    began = (run / "metrics.jsonl").stat().st_mtime - (lines[-1]["seconds"] if lines else 0)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.tmp-{os.getpid()}"  # a dot: TensorBoard must not read it half-written
    try:
        with open(temporary, "wb") as file:
            records = RecordWriter(file)
            records.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
            for line in lines:
                scalars = [
                    Summary.Value(tag=name, simple_value=value)
                    for name, value in line.items()
                    if name not in ("step", "seconds")
                ]
                event = Event(
                    wall_time=began + line["seconds"], step=line["step"], summary=Summary(value=scalars)
                )
                records.write(event.SerializeToString())
            records.flush()
        temporary.rename(folder / FILE)
    finally:
        temporary.unlink(missing_ok=True)
    return len(lines)


def names(runs):
    """A folder for each run: its last name, or as many of its last names as tell all of them apart."""
    parts = [pathlib.Path(run).resolve().parts for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-count:]).lstrip("/") for part in parts]
        if len(set(found)) == len(found):
            return found
    raise ValueError("expected each run once, got one twice")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m fastmax.tensorboard", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="what `fastmax train` wrote")
    parser.add_argument("--out", default="runs/tensorboard", metavar="DIR", help="where to, a folder a run")
    options = parser.parse_args(arguments)
    try:
        for run, name in zip(options.runs, names(options.runs), strict=True):
            folder = pathlib.Path(options.out) / name
            print(f"{run}: {export(run, folder)} lines written to {folder}")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"fastmax: error: {error}")


if __name__ == "__main__":
    main()

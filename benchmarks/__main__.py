"""`python -m benchmarks`: runs the scenarios round by round, prints the figures, writes them to results/."""

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from benchmarks.figures import FIGURES, table
from benchmarks.process import Upstream
from benchmarks.scenarios import SCENARIOS, Lab, NoAnswerError, Run, Scenario

_GATEWAY = "voxgate_server.cli serve --config {config} --host 127.0.0.1 --grpc-port {grpc_port} --rest-port {rest_port}"


async def _run(lab: Lab, scenarios: list[Scenario], quick: bool) -> dict[str, dict[str, list[Run]]]:
    results: dict[str, dict[str, list[Run]]] = {}
    for scenario in scenarios:
        load = scenario.load
        if quick and load.calls >= 1000:
            load = replace(load, calls=load.calls // 3)
        runs = results[scenario.name] = {target: [] for target in scenario.targets}
        for number in range(1 if quick else scenario.rounds):
            # Targets take turns within a round, so that a slow moment of the machine meets them alike.
            turn = number % len(scenario.targets)
            for target in scenario.targets[turn:] + scenario.targets[:turn]:
                try:
                    run = await lab.measure(scenario, target, load)
                except NoAnswerError as error:
                    run = {"broken": str(error)}
                runs[target].append(run)
                shown = {k: round(v, 2) if isinstance(v, float) else v for k, v in run.items()}
                print(f"{scenario.name} {number + 1} {target}: {shown}", file=sys.stderr, flush=True)
    return results


async def _main(args: argparse.Namespace) -> int:
    scenarios = [one for one in SCENARIOS if not args.scenario or one.name in args.scenario]
    started = datetime.datetime.now(datetime.UTC)
    with Upstream(args.harness_cpu) as upstream:
        lab = Lab(upstream, shlex.split(args.command), args.gateway_cpu)
        try:
            results = await _run(lab, scenarios, args.quick)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            await lab.close()
    print(table(results))
    rows = [figure.row(results) for figure in FIGURES if figure.scenario in results]
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    args.results.mkdir(parents=True, exist_ok=True)
    file = args.results / f"{started:%Y-%m-%dT%H%M%SZ}.json"
    file.write_text(json.dumps({"machine": machine, "quick": args.quick, "figures": rows, "runs": results}, indent=1))
    print(f"Every run: {file}", file=sys.stderr)
    return any(row[-1].startswith("FAILED") for row in rows)


def _arguments() -> argparse.Namespace:
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every scenario once, and shorter")
    parser.add_argument(
        "--scenario", action="append", choices=[one.name for one in SCENARIOS], help="only this; may be repeated"
    )
    parser.add_argument(
        "--command",
        default=f"{shlex.quote(sys.executable)} -m {_GATEWAY}",
        help="what starts the gateway (%(default)s)",
    )
    parser.add_argument(
        "--harness-cpu", type=int, default=cpus[0] if len(cpus) > 1 else None, help="CPU of provider and client"
    )
    parser.add_argument(
        "--gateway-cpu", type=int, default=cpus[1] if len(cpus) > 1 else None, help="CPU of the gateway"
    )
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results", help="directory for the JSON"
    )
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    if arguments.harness_cpu is not None:
        os.sched_setaffinity(0, {arguments.harness_cpu})
    sys.exit(uvloop.run(_main(arguments)))

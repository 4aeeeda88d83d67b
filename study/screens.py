"""The text of ``plan`` and ``status``."""

from __future__ import annotations

from typing import Any

from study.console import duration


def plan_text(plan: dict[str, Any]) -> str:
    """A plan in a screen or two."""
    lines = [f"study {plan['study']} in {plan['folder']}" + (" (begun)" if plan["begun"] else "")]
    lines.append("would run: " + ", ".join(f"{number} {kind}" for kind, number in plan["jobs"].items() if number))
    cost = f"cost: about {plan['cost_in_classifier_trainings']:g} classifier trainings"
    if plan["seconds_per_training"]:
        seconds = plan["seconds_per_training"]
        whole = duration(seconds * plan["cost_in_classifier_trainings"])
        cost += f"; by the trials so far one takes {seconds:.1f} s, all of them {whole}, divided by the trials that run at a time"
        cost += f" ({plan['core_hours']:.2g} core-hours" + (
            f", {plan['gpu_hours']:.2g} GPU-hours)" if plan["gpu_hours"] else ")") + "; oracles and reveals come on top"
    else:
        few = 1 + max(plan["enqueued"].values(), default=0)  # the budget holds the default and what is enqueued
        cost += f"; to measure one: launch with --stop-after search -o search.trials={few}, then plan again"
    lines.append(cost)
    if plan["disk_bytes"] is not None:
        lines.append(f"disk: about {plan['disk_bytes'] / 1e6:,.0f} MB")
    else:
        lines.append("disk: known once the data is prepared")
    for method, space in plan["spaces"].items():
        lines.append(f"\nsearch space of {method}")
        width = max(map(len, space))
        lines += [f"  {name:<{width}}  {text}" for name, text in space.items()]
    lines.append("\nfirst configurations")
    for name, configurations in plan["first_configurations"].items():
        for number, params in enumerate(configurations):
            shown = "default" if number == 0 else ("known: " if number <= plan["enqueued"][name] else "") + ", ".join(
                f"{k} {_short(v)}" for k, v in params.items() if v != configurations[0][k]
            )
            lines.append(f"  {name}/{number}: {shown}")
    return "\n".join(lines)


def status_text(status: dict[str, Any]) -> str:
    """Where a study stands, in a few lines."""
    lines = [f"study {status['study']} in {status['folder']}: {status['stage']}, "
             f"{status['ended']} of {status['total']} trials ended"]
    for row in status["rows"]:
        counts = ", ".join(f"{row[state]} {state}" for state in ("completed", "failed", "pruned", "running") if row[state])
        best = row["best"]
        chosen = "" if not best else "; best so far trial {trial}".format(**best) + "".join(
            f" ({name} {value:.4f})" for name, value in best.items() if name != "trial"
        )
        lines.append(f"  {row['method']}/{row['split']}: {counts or 'nothing yet'} of {row['trials']}{chosen}")
    lines += [f"  failed {failure['trial']}: {failure['reason']}" for failure in status["failures"]]
    if status["digest"]:
        mark = "; contaminated: another selection of this study was revealed before" if status["contaminated"] else ""
        lines.append(f"selection digest {status['digest'][:16]}{mark}")
    lines.append(f"next: {status['next']}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

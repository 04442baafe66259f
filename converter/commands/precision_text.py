"""What was chosen about precision, and why, as text for a terminal."""

from collections.abc import Mapping
from typing import Any


def precision_lines(precision: Mapping[str, Any]) -> list[str]:
    """Lines for the `precision` of a manifest: the choice, what it touches, what limits fp16."""
    lines = [f"precision {precision['chosen']}: {precision['reason']}"]
    if precision["cures"]:
        lines.append(f"cures: {', '.join(precision['cures'])}")
    if precision["fp32_modules"]:
        lines.append(f"in fp32: {', '.join(filter(None, precision['fp32_modules'])) or 'all'}")
    if precision["limited_by"]:
        limits = (
            f"{limit['module']} "
            + ("overflows" if limit["psnr_db"] is None else f"{limit['psnr_db']:g} dB")
            for limit in precision["limited_by"]
        )
        lines.append(f"fp16 is limited by, each alone: {', '.join(limits)}")
    return lines

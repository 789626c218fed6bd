"""``snnlib evaluate --code``: the same network, the same table, another code (`snnlib.codes`)."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlib.cli.options import UsageError, check_positive, refuse
from snnlib.cli.output import stamp, write
from snnlib.cli.table import ACCOUNTS
from snnlib.simulation.costs import literature_energy

if TYPE_CHECKING:
    from snnlib.simulation.network import SpikingNetwork
    from snnlib.zoo.coded import Code, CodedReport

# Which options belong to which code: the others are refused, never ignored.
OWNERS = {
    "radix": ("bits", "radix"),
    "first-spike": ("slots",),
    "delta": ("bits", "frames"),
}
OPTIONS = sorted({name for names in OWNERS.values() for name in names})
_OF_NEURONS = ("neuron", "levels", "negative", "v0", "cap", "reset", "steps", "answer_from")
_BITS = {"radix": 5, "delta": 4}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which code."""
    add = parser.add_argument
    text = """instead of neurons in time: the digits of each activation, one spike a neuron, or the
        changes between the frames of a moving picture"""
    add("--code", choices=tuple(OWNERS), help=text)
    text = f"""activations have 2^B levels (default: {_BITS["radix"]} for radix,
        {_BITS["delta"]} for delta)"""
    add("--bits", type=int, metavar="B", help=text)
    add("--radix", type=int, metavar="R", help="base of the digits (radix; default: 2)")
    text = """slots of time a layer (first-spike; default: none, times are analog; then --balance is
        max and --dtype float64 unless given)"""
    add("--slots", type=int, metavar="S", help=text)
    text = "frames, in which each image moves by a pixel (delta; default: 8)"
    add("--frames", type=int, metavar="F", help=text)


def execute(options: argparse.Namespace) -> None:
    """Run the command with another code.

    Raises:
        UsageError: an option belongs to another code or to neurons in time.
    """
    from snnlib.cli import own
    from snnlib.zoo import coded, distributed

    _check(options)
    _prepare(options)
    images = own.images_of(options)
    work = own.converted(options, images)
    made = stamp(options, work.net.device)
    split, origin = own.tried(options, images, work)
    own.check_classes(images, split, work.net)
    if distributed.rank() > 0:  # process 0 does it all
        return
    code = code_of(options, work.net)
    sequence = coded.Sequence(options.frames or coded.Sequence().frames)
    found, run = coded.evaluate(code, work.ann, split, sequence, progress=not options.quiet)
    result = coded.report(found, run, code, work.name, images.name, work.balance)
    result |= {"images_from": origin, "calibration_from": work.calibration_from}
    if options.output:
        write(Path(options.output), made, {"label": options.code, **result})
    print(json.dumps(result) if options.json else table(result))


def code_of(options: argparse.Namespace, net: SpikingNetwork) -> Code:
    """The code that the options ask for."""
    from snnlib.codes import Delta, FirstSpike, Radix

    if options.code == "first-spike":
        return FirstSpike(net, options.slots)
    bits = _BITS[options.code] if options.bits is None else options.bits
    if options.code == "delta":
        return Delta(net, bits)
    return Radix(net, bits, 2 if options.radix is None else options.radix)


def refuse_all(options: argparse.Namespace) -> None:
    """Raise UsageError if an option of a code was given without a code."""
    for name in OPTIONS:
        refuse(options, f"belongs to --code {_owners(name)}", name)


def _owners(name: str) -> str:
    return " or ".join(code for code, names in OWNERS.items() if name in names)


def _check(options: argparse.Namespace) -> None:
    code = options.code
    for name in set(OPTIONS) - set(OWNERS[code]):
        refuse(options, f"does not apply to --code {code}, but to {_owners(name)}", name)
    refuse(options, f"is of neurons in time, and --code {code} sends otherwise", *_OF_NEURONS)
    refuse(options, f"does not apply to --code {code}", "seed", "only_last", "batch")
    if options.input != "constant":
        raise UsageError(f"--input {options.input}: --code {code} takes the image as it is")
    check_positive(options, "limit", "calibration_images", "frames")


def _prepare(options: argparse.Namespace) -> None:
    """Settings of the conversion that a code wants and the options leave open."""
    saved = options.network.endswith(".safetensors")
    analog = options.code == "first-spike" and options.slots is None
    if analog and options.dtype is None and not saved:
        options.dtype = "float64"  # analog times are as exact as the numbers that hold them
    if analog and options.balance is None and options.percentile is None and not saved:
        options.balance = "max"  # what exceeds λ has no time
    options.steps = 1
    if options.balance == "minerror" and not saved:  # for as many levels as the code has
        bits = options.bits or _BITS.get(options.code, 8)
        options.levels = options.slots or 2**bits - 1


_MEANS = {
    "radix": "radix code: {bits} bits, base {radix}, {interval_steps} digits a layer; an answer "
    "takes {latency_steps} steps, a new image may enter every {interval_steps}",
    "first-spike": "first spike: {slots} slots a layer; an answer takes {latency_steps} slots, a "
    "new image may enter every {interval_steps}",
    "analog": "first spike: analog times; an answer takes {latency_steps} windows; "
    "{clipped_per_image:g} activations an image above what a time can say",
    "delta": "sigma-delta code: {bits} bits, {frames} frames, in which the picture moves by a "
    "pixel each",
}


def table(result: CodedReport) -> str:
    """A report as text: the setting, then one line an answer."""
    about: Any = result
    analog = result["code"] == "first-spike" and result["slots"] is None
    quantile = "" if result["percentile"] is None else f" {result['percentile']:g}"
    scope = "channel" if result["per_channel"] else "layer"
    known = f"{count:,} " if (count := result["calibration_images"]) else ""
    anew = result["anew_events_per_image"]
    head = f"{'frame' if anew else '':>5}{'accuracy':>11}{'- ANN':>9}{'same as ANN':>13}"
    head += f"{'events':>12}{'a neuron':>10}{'bits':>8}{'SynOps':>14}"
    head += f"{'energy':>9}{'literature':>12}"
    lines = [
        f"{result['model']} on {result['n']:,} {about['images_from']}",
        *textwrap.wrap(_MEANS["analog" if analog else result["code"]].format(**about), 90),
        f"thresholds: {result['balance']}{quantile} per {scope}, on {known}"
        f"{about['calibration_from']}",
        f"ANN: {100 * result['ann_accuracy']:.2f} %, {result['ann_macs']:,} MACs, "
        f"{result['ann_energy_nj']:,.0f} nJ an image",
        "",
        head + (f"{'anew':>12}{'energy':>9}{'literature':>12}" if anew else ""),
    ]
    lines += [_line(about, i) for i in range(len(result["accuracy"]))]
    told = f"{ACCOUNTS} Bits: entropy of the messages, a neuron."
    told += " Costs are sums over the frames so far; anew: every frame sent anew." if anew else ""
    speed = f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"
    end = f"{speed} on {result['hardware']}, {result['dtype']}"
    return "\n".join([*lines, "", *textwrap.wrap(told, 90), "", end])


def _line(result: dict[str, Any], i: int) -> str:
    loss = 100 * (result["accuracy"][i] - result["ann_accuracy"])
    passes = result["ann_energy_nj"] * (1 if result["frames"] is None else i + 1)
    events, synops = result["events_per_image"][i], result["synops_per_image"][i]
    bits = result["bits_per_neuron"]
    line = f"{'' if result['frames'] is None else i + 1:>5}"
    line += f"{100 * result['accuracy'][i]:>9.2f} %{loss:>+9.2f}"
    line += f"{100 * result['agreement'][i]:>11.2f} %"
    line += f"{events:>12,.0f}{events / result['neurons']:>10.3f}"
    line += f"{'–' if bits is None else f'{bits[i]:.2f}':>8}{synops:>14,.0f}"
    line += f"{result['energy_nj_per_image'][i] / passes:>9.2f}"
    line += f"{literature_energy(synops) / passes:>12.2f}"
    if result["frames"] is not None:
        anew = result["anew_energy_nj_per_image"][i] / passes
        theirs = literature_energy(result["anew_synops_per_image"][i]) / passes
        line += f"{result['anew_events_per_image'][i]:>12,.0f}{anew:>9.2f}{theirs:>12.2f}"
    return line

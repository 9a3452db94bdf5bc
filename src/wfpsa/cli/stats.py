"""The verb that shows the engine's own counters."""

import typer

from wfpsa.cli.common import EngineOption, ExitCode, opened, required_target
from wfpsa.cli.output import FactsFormat, write_facts, write_text
from wfpsa.cli.show import FactsFormatOption
from wfpsa.statistics import NOW, Statistics


def stats(
    context: typer.Context,
    format: FactsFormatOption = FactsFormat.TABLE,
    engine: EngineOption = None,
) -> int:
    """Show the engine's counters (IPsecGetStatistics1): of the whole system, in SAs, packets and bytes.

    A table says which are of the moment (now) and which are counted since the engine started (total).
    """
    target = required_target(context, engine)
    with opened(target) as open_engine:
        counters = open_engine.statistics()
    if format is FactsFormat.JSON:
        write_facts(counters._asdict(), format)
    else:
        write_text(_table(counters))
    return ExitCode.DONE


def _table(counters: Statistics) -> str:
    names, values = max(map(len, counters._fields)), max(len(str(value)) for value in counters)
    lines = (
        f"{name:{names}}  {value:{values}}  {'now' if name in NOW else 'total'}\n"
        for name, value in counters._asdict().items()
    )
    return "".join(lines)

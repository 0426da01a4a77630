"""The examples of docs/extending.md, and what replicas make of them.

    python -m tests.extending REPLICAS OUTPUT

trains some of them in float64 and saves their losses and weights. 0 replicas
is no strategy.
"""

import pathlib
import re

DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
SHARED = "Extending"  # The heading of the lines that all examples share.


def sections():
    """Dictionary: the code under each heading that has any."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = {}
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE):
        heading, _, rest = section.partition("\n")
        blocks = re.findall(r"```python\n(.*?)```", rest, flags=re.DOTALL)
        if blocks:
            found[heading] = blocks
    return found


def run(block, namespace, heading):
    """Runs a block of code; a traceback names the heading."""
    exec(compile(block, f"{DOCUMENT.name}: {heading}", "exec"), namespace)


def definitions(*headings):
    """What the shared lines and some examples define, without training."""
    code = sections()
    namespace = {"__name__": "extending"}
    for heading in (SHARED, *headings):
        for block in code[heading]:
            # An example ends in the lines that make a model and train it.
            run(
                re.split(r"^(?:model|head) = ", block, flags=re.MULTILINE)[0],
                namespace,
                heading,
            )
    return namespace

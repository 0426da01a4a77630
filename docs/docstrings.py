"""Lets mkdocstrings read the docstrings of this library as they are written.

They follow Keras: "Example:" holds doctests or plain indented code, "Call
arguments:" what a layer or a loss is called with, and "Returns:" prose. griffe,
which reads them for the site, would print such code as a paragraph, and take
what is before the first colon of the prose for a type. This extension, named
in `mkdocs.yml`, gives it the same text in words that it knows.
"""

import re
import textwrap

import griffe

# A heading alone in its line and the indented lines, or empty ones, below it.
SECTION = re.compile(
    r"^(?P<heading>[A-Z][a-z ]+):\n(?P<body>(?:[ ]+\S.*\n|[ ]*\n)+)",
    flags=re.MULTILINE,
)
# Names that are described together and go on in the next line.
BROKEN_NAMES = re.compile(r"^( +(?:\w+, )*\w+,)\n +((?:\w+, )*\w+: )", re.M)


def translate(docstring):
    """A docstring, cleaned of its indentation, in griffe's words."""

    def section(match):
        heading, body = match["heading"], match["body"]
        text = textwrap.dedent(body).strip("\n")
        if heading == "Args":
            return "Args:\n" + BROKEN_NAMES.sub(r"\1 \2", body)
        if heading == "Call arguments":
            # What follows the heading in its line is the title of the list.
            return f"Other args: Call arguments:\n{body}"
        if heading == "Example":
            if not text.startswith(">>> "):
                text = f"```python\n{text}\n```"
            return f"Examples: Example:\n{textwrap.indent(text, '    ')}\n\n"
        if heading in ("Returns", "Yields", "Reference"):
            return f"**{heading}:**\n\n{text}\n\n"
        return match[0]

    return SECTION.sub(section, docstring + "\n").rstrip("\n")


class KerasDocstrings(griffe.Extension):
    """Translates every docstring as its object is read."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = translate(obj.docstring.value)

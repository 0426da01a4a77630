"""What errors of TensorFlow's say about data."""

import re


def message_of(error):
    """What an error of TensorFlow's says, without where it happened."""
    named = re.search(r"Cannot read the image file .*", error.message)
    if named:  # A sentence of this package, in the midst of a traceback.
        return named[0]
    failed = re.search(r"assertion failed: \[([^\]]*)\]", error.message)
    if failed:  # What a check of this package says.
        return failed[1].rstrip(".") + "."
    message = re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*", "", error.message).strip()
    message = re.sub(
        r"(?s)^(Graph execution error:.*<stack traces unavailable>\s*"
        r"|Error in user-defined.*::\w+: )",
        "",
        message,
    )
    return message.rstrip(".") + "."

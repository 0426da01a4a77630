import sys

import pytest

from simclr_keras.optional_imports import import_optional


def test_module_is_imported():
    module = import_optional("xml.dom", "python", "xml", "This test")
    assert module is sys.modules["xml.dom"]


def test_missing_package_is_named_with_its_extra():
    with pytest.raises(ImportError) as info:
        import_optional("no_such.module", "no-such", "more", "`f`")
    message = str(info.value)
    assert message.startswith("`f` needs no-such, which could not be imported")
    assert "No module named 'no_such'" in message
    assert "pip install simclr_keras[more]" in message

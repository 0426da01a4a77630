from simclr_keras import user_code


def through(module, function):
    """Calls a function from a frame of a module of this name."""
    scope = {"__name__": module, "function": function}
    exec("def call():\n    return function()", scope)
    return scope["call"]


def test_frames_of_libraries_are_passed_over():
    assert through("simclr_keras.model.checks", user_code.stacklevel)() == 2
    deep = user_code.stacklevel
    for module in ("simclr_keras.a", "tensorflow.b", "keras.c", "keras"):
        deep = through(module, deep)
    assert deep() == 5


def test_other_modules_are_users():
    assert through("keras_of_mine", user_code.stacklevel)() == 1
    within = through("simclr_keras.a", user_code.stacklevel)
    assert through("simclr_keras.b", through("mine", within))() == 2

"""What a reader makes of a file that may be damaged."""

import numpy as np

from unetrpp.core.errors import UserError


def equal_or_refused(read, path, truth) -> bool:
    """Whether ``read`` refuses the file by its name; otherwise it must give ``truth``."""
    try:
        array, _ = read(path)
    except UserError as error:
        message = str(error)
    else:
        np.testing.assert_array_equal(array, truth)
        return False
    assert path.name in message
    return True

"""Several problems in one error."""

import pytest

from unetrpp.core.errors import UserError, refuse


def test_all_problems_are_in_one_error():
    refuse([], "plans.json")
    with pytest.raises(UserError, match=r"^plans\.json: is red; paint it$"):
        refuse(["is red; paint it"], "plans.json")
    with pytest.raises(UserError, match=r"^plans\.json has 2 errors:\n- is red\n- is wet$"):
        refuse(["is red", "is wet"], "plans.json")

"""What every section of the configuration has in common, whichever file it stands in."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What all sections have in common: exact types, no unknown key, no change, nothing of a value in an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

"""Types of the values in configurations, shared by all their sections."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+(_[A-Za-z0-9]+)*$")]
Layer = Literal[
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4",
    "relu4_1", "relu4_2", "relu4_3", "relu4_4", "relu5_1", "relu5_2", "relu5_3", "relu5_4",
]  # fmt: skip
Positive = Annotated[int, Field(gt=0, strict=True)]
Pixels = Annotated[int, Field(ge=16, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
# YAML reads 1e-3 as a string, so strings of numbers are numbers; yes and true are not.
NotBool = BeforeValidator(lambda value: str(value) if isinstance(value, bool) else value)
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False), NotBool]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), NotBool]
Share = Annotated[float, Field(gt=0, le=1), NotBool]
Device = Literal["cpu", "cuda", "mps", "auto"]
Norm = Literal["instance", "batch", "instance_first", "lrn_first", "none"]
PlainNorm = Literal["instance", "batch", "none"]

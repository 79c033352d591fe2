"""Partial overrides: what an entry of the configuration changes of a shared section."""

import dataclasses

from pydantic import BaseModel, ConfigDict, create_model

from texnet.config import Descriptor, Images, Objective, Optimiser
from texnet.networks import StyleNet
from texnet.validation import Section


def _change(cls: type) -> type[BaseModel]:
    """The model of a partial override of ``cls``: every key optional."""
    fields = {f.name: (f.type | None, None) for f in dataclasses.fields(cls)}
    return create_model(f"{cls.__name__}Change", __config__=ConfigDict(extra="forbid"), **fields)


DescriptorChange = _change(Descriptor)
GeneratorChange = _change(StyleNet)
ObjectiveChange = _change(Objective)
OptimiserChange = _change(Optimiser)
ImagesChange = _change(Images)


def merge(base: Section, *changes: BaseModel) -> Section:
    """``base`` with what the changes set, later ones winning."""
    for change in changes:
        base = dataclasses.replace(base, **change.model_dump(exclude_unset=True))
    return base

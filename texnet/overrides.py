"""Partial overrides: what an entry of the configuration changes of a shared section."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from texnet.config import Descriptor, Images, Objective, Optimiser
from texnet.networks import StyleNet

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")


def _change(cls: type) -> type[BaseModel]:
    """The model of a partial override of ``cls``: every key optional."""
    hints = get_type_hints(cls, include_extras=True)
    keys: dict[str, Any] = {f.name: (hints[f.name] | None, None) for f in dataclasses.fields(cls)}
    return create_model(f"{cls.__name__}Change", __config__=ConfigDict(extra="forbid"), **keys)


if TYPE_CHECKING:  # what is made at run time is no type to a type checker
    DescriptorChange = BaseModel
    GeneratorChange = BaseModel
    ObjectiveChange = BaseModel
    OptimiserChange = BaseModel
    ImagesChange = BaseModel
else:
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

"""Reads course.toml: where the course is published."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDER = "OWNER/REPOSITORY"
_NAME = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9])*/[A-Za-z0-9._-]+")


class SettingsError(ValueError):
    """A setting that cannot be used: which one, its value and what is accepted."""


@dataclass(frozen=True)
class Settings:
    """The course's repository ("owner/name"), branch and title.

    Raises:
        SettingsError: if the repository is not written as GitHub names one, or the branch is
            no branch's name.

    >>> Settings("ada/convnets", "main", "Networks").url
    'https://github.com/ada/convnets.git'
    """

    repository: str
    branch: str
    title: str

    def __post_init__(self):
        if not _NAME.fullmatch(self.repository) or self.name in (".", "..", ".git"):
            raise SettingsError(
                f"repository={self.repository!r}: expected owner/name, as in github.com/owner/name"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", self.branch):
            raise SettingsError(f"branch={self.branch!r}: expected the name of a branch, as main")

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repository.partition("/")[2]

    @property
    def url(self) -> str:
        """The address to clone."""
        return f"https://github.com/{self.repository}.git"

    @property
    def published(self) -> bool:
        """Whether the course knows its own address."""
        return self.repository != PLACEHOLDER

    def colab(self, lesson: str) -> str:
        """Return the address that opens a lesson in Colab."""
        base = "https://colab.research.google.com/github"
        return f"{base}/{self.repository}/blob/{self.branch}/lessons/{lesson}.ipynb"


def load(root: Path = ROOT) -> Settings:
    """Read the settings of the course in `root`.

    Raises:
        SettingsError: if course.toml is no TOML, or lacks a setting.

    >>> load().branch
    'main'
    """
    try:
        with open(root / "course.toml", "rb") as file:
            return Settings(**tomllib.load(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"course.toml: {error}") from None
    except TypeError:
        names = "repository, branch and title"
        raise SettingsError(f"course.toml: expected {names}, each with a text") from None

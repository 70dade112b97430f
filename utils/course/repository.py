"""Points the course at the repository where it is published: `make repository NAME=owner/name`.

Rewrites course.toml, README.md, and the badge and the setup cell of every notebook. Outputs stay,
because no other cell changes.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path

from utils.course import build
from utils.course.mine import changed_by_hand
from utils.course.settings import ROOT, SettingsError, load
from utils.course.source import SourceError, read, sources


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    names = sys.argv[1:] if arguments is None else arguments
    if len(names) != 1:
        print("Name the repository: make repository NAME=owner/name", file=sys.stderr)
        return 1
    try:
        before = load(root)
        after = replace(before, repository=names[0])
        lessons = [read(path) for path in sources(root)]
        page = root / "README.md"
        readme = build.readme(page.read_text(encoding="utf-8"), lessons, after)
    except (SettingsError, SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    stale = [path for lesson in lessons for path in build.stale(lesson, before)]
    if stale:
        why = "was changed by hand or run" if changed_by_hand(stale[0]) else "is stale"
        which = f"{stale[0].relative_to(root)} {why}"
        print(f"{which}, so nothing was changed: run `make notebooks` first", file=sys.stderr)
        return 1
    toml = root / "course.toml"
    text = toml.read_text(encoding="utf-8")
    line = f'repository = "{after.repository}"'
    toml.write_text(re.sub(r"(?m)^\s*repository\s*=.*$", line, text), encoding="utf-8")
    page.write_text(readme, encoding="utf-8")
    for lesson in lessons:
        build.write(lesson, after, build.stored(build.paths(lesson)[0]))
    print(f"The course is at https://github.com/{after.repository}, in {len(lessons)} lessons.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

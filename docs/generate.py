"""Write the pages of the documentation that the code itself determines.

Rules and remedies are documented in their docstrings, modules in theirs; this module turns them
into Markdown before Sphinx reads its sources, so that no page can disagree with the code. The
written files are never committed.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_plateau.core.remedy import Remedy
    from lightning_plateau.core.rule import Rule
    from lightning_plateau.experiments.experiment import Experiment

PACKAGE = "lightning_plateau"

FAMILIES = {
    "LP1": "Data",
    "LP2": "Numerics",
    "LP3": "Gradients",
    "LP4": "Optimization",
    "LP5": "Activations and initialization",
    "LP6": "Normalization",
    "LP7": "Objective and output",
    "LP8": "Capacity and generalization",
    "LP9": "The run itself",
}
"""What the first digit of a code stands for."""

SECTIONS = (
    "What it detects",
    "Why it matters",
    "Example",
    "Remedies",
    "Known limitations",
    "References",
)
"""What the docstring of every rule says, in this order."""

SETTINGS = ("Attributes", "Args", "Thresholds")
"""Headings under which a docstring may describe the fields of its class."""

SAFETIES = {
    "safe": 'Cannot hurt a healthy run: applied under `policy="safe"`, the default.',
    "unsafe": 'May change a healthy run for the worse: applied on trial under `policy="auto"`.',
    "advice": "Shown with a snippet, never applied.",
}
"""What each grade of safety promises, from the mildest remedy to the one left to the user."""

RULES_INTRODUCTION = """
Each rule recognizes one fault. Its code is stable and never used again for another fault; its name
reads on after “the training shows …”. The same pages are at hand in a terminal:
`lightning-plateau explain LP301`.
""".strip()

REMEDIES_INTRODUCTION = """
A remedy is one change of a training. Each is tried, watched against the signal that it was meant to
mend, and then kept or reverted; the journal has the numbers.
""".strip()

EXPERIMENTS_INTRODUCTION = """
An experiment is a short active test on a copy of the training, which itself stays bit for bit as it
was. They are made when a training is stuck and watching does not tell the causes apart, and by
`lightning-plateau check`; the cheapest comes first.
""".strip()

_HEADING = re.compile(r"([A-Z][A-Za-z -]+):\s*$")
_CODE_OR_SPAN = re.compile(r"\bLP\d{3}\b|`+[^`]+`+")

Pages = dict[Path, str]
Links = Mapping[str, str]


@dataclass(frozen=True)
class Docstring:
    """A docstring taken apart.

    Attributes:
        summary: The first line.
        description: What follows before the first heading.
        sections: The text under each heading, by heading, indentation removed.
    """

    summary: str
    description: str
    sections: Mapping[str, str]


def parse(text: str) -> Docstring:
    """Take a docstring apart at its headings: unindented lines such as ``What it detects:``.

    Example:
        >>> parsed = parse("A fault.\\n\\nRemedies:\\n    Mend it.\\n\\n    Or do not.")
        >>> parsed.summary, parsed.sections
        ('A fault.', {'Remedies': 'Mend it.\\n\\nOr do not.'})
    """
    summary, _, rest = text.strip().partition("\n")
    heading = ""
    bodies: dict[str, list[str]] = {heading: []}
    for line in rest.splitlines():
        if match := _HEADING.match(line):
            heading = match[1]
            bodies[heading] = []
        else:
            bodies[heading].append(line)
    texts = {name: dedent("\n".join(lines)).strip() for name, lines in bodies.items()}
    return Docstring(summary, texts.pop(""), texts)


def with_fences(text: str) -> str:
    """Put each doctest of ``text`` into a fenced block, which Markdown needs.

    Example:
        >>> with_fences(">>> 1 + 1\\n2\\n\\nSo it is.").splitlines()
        ['```pycon', '>>> 1 + 1', '2', '```', '', 'So it is.']
    """
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if not inside and line.startswith(">>>"):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    if inside:
        lines.append("```")
    return "\n".join(lines)


def with_links(text: str, links: Links) -> str:
    """Link the codes, and the code spans that are wholly a name, outside of fenced blocks.

    Example:
        >>> with_links("LP301 tries `clip`, not `LP999`", {"LP301": "a.md", "clip": "b.md"})
        '[LP301](a.md) tries [`clip`](b.md), not `LP999`'
    """

    def linked(match: re.Match[str]) -> str:
        target = links.get(match[0].strip("`"))
        return f"[{match[0]}]({target})" if target else match[0]

    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(
        part if part.startswith("```") else _CODE_OR_SPAN.sub(linked, part) for part in parts
    )


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    r"""Return a Markdown table.

    Example:
        >>> print(table(["norm"], [["|g|"]]))
        | norm |
        | --- |
        | \|g\| |
    """
    head = list(header)
    body = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *body])


def toctree(entries: Iterable[str], caption: str = "") -> str:
    """Return a hidden table of contents, for the side bar."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *entries, "```"])


def default_of(field: Field[Any]) -> str:
    """Return how the default of a dataclass field is written.

    Example:
        >>> @dataclass
        ... class Settings:
        ...     name: str
        ...     limit: float = 0.5
        >>> [default_of(field) for field in fields(Settings)]
        ['required', '`0.5`']
    """
    if field.default is not MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not MISSING:
        return f"`{field.default_factory()!r}`"
    return "required"


def settings(cls: type[Any], doc: Docstring) -> str:
    """Return the table of the fields of a rule or remedy; empty where it has none."""
    described = {
        name: " ".join(meaning.split())
        for section in SETTINGS
        for name, meaning in re.findall(
            r"^(\w+)(?: \([^)]*\))?: (.+(?:\n[ ]+.+)*)",
            doc.sections.get(section, ""),
            flags=re.MULTILINE,
        )
    }
    header = ["Setting", "Default", *(["Meaning"] if described else [])]
    rows = [[f"`{f.name}`", default_of(f), described.get(f.name, "")] for f in fields(cls)]
    return table(header, (row[: len(header)] for row in rows)) if rows else ""


def field_list(facts: Mapping[str, str]) -> str:
    """Return the facts that are known as a Markdown field list."""
    return "\n".join(f":{name}: {value}" for name, value in facts.items() if value)


def page(*blocks: str) -> str:
    """Join the blocks of a page that are not empty."""
    return "\n\n".join(block for block in blocks if block) + "\n"


# --- Rules -------------------------------------------------------------------------------------


def documented(rule: type[Rule]) -> Docstring:
    """Return the docstring of a rule, taken apart.

    Raises:
        ValueError: If a section is missing, empty or out of order.
    """
    doc = parse(getdoc(rule) or "")
    found = tuple(name for name in doc.sections if name in SECTIONS and doc.sections[name])
    if found != SECTIONS:
        raise ValueError(
            f"{rule.__module__}.{rule.__qualname__} ({rule.code}): the docstring must have the "
            f"sections {', '.join(SECTIONS)}, in this order; found {', '.join(found) or 'none'}"
        )
    return doc


def family(code: str) -> str:
    """Return the name of the family that a code belongs to; empty for codes of others.

    Example:
        >>> family("LP301")
        'Gradients'
    """
    return FAMILIES.get(code[:3], "")


def rule_page(rule: type[Rule], links: Links) -> str:
    """Return the page of one rule."""
    doc = documented(rule)
    facts = {
        "Family": family(rule.code),
        "Kind": "symptom" if rule.symptom else "cause",
        "Severity": str(rule.severity),
        "Reported": (
            "only while the training fails, unless it is certain"
            if rule.needs_failure and not rule.symptom
            else "whenever it is seen"
        ),
        "Reads": ", ".join(f"`{signal.tag}`" for signal in rule.requires),
        "Accounts for": ", ".join(rule.explains),
        "Remedies": ", ".join(f"`{name}`" for name in rule.remedies),
    }
    blocks = [f"# {rule.code} {rule.name}", doc.summary, field_list(facts), doc.description]
    for name in SECTIONS:
        blocks += [f"## {name}", with_fences(doc.sections[name])]
        if name == SECTIONS[0] and (rows := settings(rule, doc)):
            blocks += ["### Thresholds", rows]
    return with_links(page(*blocks), {k: v for k, v in links.items() if k != rule.code})


def rule_index(rules: Iterable[type[Rule]]) -> str:
    """Return the list of all rules, family by family."""
    ordered = sorted(rules, key=lambda rule: rule.code)
    blocks = ["# Rules", RULES_INTRODUCTION]
    for prefix, title in FAMILIES.items():
        members = [rule for rule in ordered if rule.code.startswith(prefix)]
        if members:
            rows = [
                [f"[{rule.code}]({rule.code}.md)", rule.name, documented(rule).summary]
                for rule in members
            ]
            blocks += [f"## {prefix}xx {title}", table(["Code", "Fault", "Summary"], rows)]
    return page(*blocks, toctree(rule.code for rule in ordered))


def rule_pages(rules: Iterable[type[Rule]], remedies: Iterable[type[Remedy]]) -> Pages:
    """Return the pages of the folder ``rules``."""
    rules = tuple(rules)
    links = {rule.code: f"{rule.code}.md" for rule in rules}
    links |= {remedy.name: f"../remedies/{remedy.name}.md" for remedy in remedies}
    pages = {Path(f"{rule.code}.md"): rule_page(rule, links) for rule in rules}
    return pages | {Path("index.md"): rule_index(rules)}


# --- Remedies ----------------------------------------------------------------------------------


def remedy_page(remedy: type[Remedy], rules: Iterable[type[Rule]], links: Links) -> str:
    """Return the page of one remedy."""
    doc = parse(getdoc(remedy) or "")
    safety = str(remedy.safety)
    facts = {
        "Safety": f"**{safety}**. {SAFETIES[safety]}",
        "In force": "from then on, at every step" if remedy.standing else "",
        "Afterwards": "the training stops" if remedy.final else "",
        "Tried for": ", ".join(f"{r.code} {r.name}" for r in rules if remedy.name in r.remedies),
    }
    blocks = [f"# {remedy.name}", doc.summary, field_list(facts), doc.description]
    if rows := settings(remedy, doc):
        blocks += ["## Settings", rows]
    for name, text in doc.sections.items():
        if name not in SETTINGS:
            blocks += [f"## {name}", with_fences(text)]
    return with_links(page(*blocks), {k: v for k, v in links.items() if k != remedy.name})


def remedy_index(remedies: Iterable[type[Remedy]]) -> str:
    """Return the list of all remedies, the safest first."""
    ordered = sorted(remedies, key=lambda remedy: remedy.name)
    blocks = ["# Remedies", REMEDIES_INTRODUCTION]
    for safety, promise in SAFETIES.items():
        members = [remedy for remedy in ordered if str(remedy.safety) == safety]
        if members:
            rows = [
                [f"[{remedy.name}]({remedy.name}.md)", parse(getdoc(remedy) or "").summary]
                for remedy in members
            ]
            blocks += [f"## {safety.capitalize()}", promise, table(["Remedy", "Summary"], rows)]
    return page(*blocks, toctree(remedy.name for remedy in ordered))


def remedy_pages(remedies: Iterable[type[Remedy]], rules: Iterable[type[Rule]]) -> Pages:
    """Return the pages of the folder ``remedies``."""
    remedies, rules = tuple(remedies), tuple(rules)
    links = {remedy.name: f"{remedy.name}.md" for remedy in remedies}
    links |= {rule.code: f"../rules/{rule.code}.md" for rule in rules}
    pages = {Path(f"{one.name}.md"): remedy_page(one, rules, links) for one in remedies}
    return pages | {Path("index.md"): remedy_index(remedies)}


# --- Experiments -------------------------------------------------------------------------------


def experiment_page(experiment: type[Experiment], links: Links) -> str:
    """Return the page of one experiment."""
    doc = parse(getdoc(experiment) or "")
    facts = {
        "Measures": f"`{experiment.signal.tag}`: {experiment.signal.help}",
        "Batches": str(experiment.batches),
        "Costs": f"at most {experiment.cost:.3g} training steps",
        "Tells of": ", ".join(experiment.tells),
    }
    blocks = [f"# {experiment.name}", doc.summary, field_list(facts), doc.description]
    if rows := settings(experiment, doc):
        blocks += ["## Settings", rows]
    for name, text in doc.sections.items():
        if name not in SETTINGS:
            blocks += [f"## {name}", with_fences(text)]
    return with_links(page(*blocks), links)


def experiment_pages(experiments: Iterable[type[Experiment]], rules: Iterable[type[Rule]]) -> Pages:
    """Return the pages of the folder ``experiments``."""
    experiments = tuple(experiments)
    links = {rule.code: f"../rules/{rule.code}.md" for rule in rules}
    rows = [
        [f"[{one.name}]({one.name}.md)", parse(getdoc(one) or "").summary, f"{one.cost:.3g}"]
        for one in experiments
    ]
    index = page(
        "# Experiments",
        EXPERIMENTS_INTRODUCTION,
        table(["Experiment", "Summary", "Costs at most, in training steps"], rows),
        toctree(one.name for one in experiments),
    )
    pages = {Path(f"{one.name}.md"): experiment_page(one, links) for one in experiments}
    return pages | {Path("index.md"): index}


# --- Reference ---------------------------------------------------------------------------------


def public_modules(package: str = PACKAGE) -> Iterator[str]:
    """Yield the name of every module, save those of single rules and remedies and private ones."""
    yield package
    for found in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        if found.ispkg and found.name not in {f"{PACKAGE}.rules", f"{PACKAGE}.remedies"}:
            yield from public_modules(found.name)
        else:
            yield found.name


def module_page(name: str) -> str:
    """Return the page of one module.

    What a package passes on from its modules is described there, once.
    """
    directive = [
        "```{eval-rst}",
        f".. automodule:: {name}",
        "   :members:",
        "   :ignore-module-all:",
        "   :show-inheritance:",
        "```",
    ]
    return page(f"# {name}", "\n".join(directive))


def signal_page() -> str:
    """Return the list of the signals that the library records by itself."""
    from lightning_plateau.core.signal import STANDARD

    rows = [
        [f"`{signal.tag}`", signal.help, signal.unit, signal.axis or "–", signal.cadence]
        for signal in sorted(STANDARD, key=lambda signal: signal.tag)
    ]
    return page(
        "# Signals",
        "A signal is a named series. Only those that some selected rule reads are recorded. "
        "*One value per* says what the columns of a series with several columns stand for.",
        table(["Tag", "A value is the …", "Unit", "One value per", "Recorded"], rows),
    )


def reference_pages() -> Pages:
    """Return the pages of the folder ``reference/modules``."""
    pages = {Path(f"{name}.md"): module_page(name) for name in public_modules()}
    return pages | {Path("signals.md"): signal_page()}


# --- Files -------------------------------------------------------------------------------------


def write(folder: Path, pages: Mapping[Path, str]) -> None:
    """Make ``folder`` hold exactly ``pages``; leave alone what has not changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {found.relative_to(folder) for found in folder.glob("*.md")} - pages.keys():
        (folder / stale).unlink()
    for name, text in pages.items():
        target = folder / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def generate(docs: Path) -> None:
    """Write every generated page below the folder ``docs``."""
    from lightning_plateau import experiments, remedies, rules

    found_rules, found_remedies = rules.catalogue(), remedies.catalogue()
    write(docs / "rules", rule_pages(found_rules, found_remedies))
    write(docs / "remedies", remedy_pages(found_remedies, found_rules))
    write(docs / "experiments", experiment_pages(experiments.catalogue(), found_rules))
    write(docs / "reference" / "modules", reference_pages())

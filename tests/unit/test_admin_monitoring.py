"""Alert rules and dashboard are held against the metrics that exist, by a parser of their language.

What is looked for is looked for in broken files, too: each fault must be found.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import promql_parser as promql
import pytest
import yaml

from acceptance.docs_blocks import ROOT
from s3gc_fastapi._prometheus import METRICS

FOLDER = ROOT / "packages" / "s3gc-fastapi" / "src" / "s3gc_fastapi" / "monitoring"
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
SEVERITIES = ("info", "warning", "critical")
COUNTING = ("rate", "irate", "increase")


def selectors(node: Any, within: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every selector of an expression, and the functions that it stands in."""
    if isinstance(node, promql.VectorSelector):
        yield node, within
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector, within
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from selectors(argument, (*within, node.func.name))
    elif isinstance(node, promql.BinaryExpr):
        yield from selectors(node.lhs, within)
        yield from selectors(node.rhs, within)
    elif not isinstance(node, promql.NumberLiteral | promql.StringLiteral):
        yield from selectors(node.expr, within)  # parentheses, minus, aggregations


def labels_of(node: Any) -> set[str]:
    """The labels that the result has."""
    if isinstance(node, promql.AggregateExpr):
        return set(node.modifier.labels) if node.modifier is not None else set()
    if isinstance(node, promql.BinaryExpr):
        sides = [labels_of(side) for side in (node.lhs, node.rhs) if any(selectors(side))]
        return set.intersection(*sides) if sides else set()
    return {label for found, _ in selectors(node) for label in ("bucket", *METRICS[found.name][2])}


def faults_of(expression: str, used: str) -> list[str]:
    """What is wrong with an expression, and with a text that uses its labels."""
    try:
        parsed = promql.parse(expression)
    except ValueError as error:
        return [f"no PromQL: {error}"]
    found = list(selectors(parsed))
    if not found:
        return ["names no metric"]
    faults = []
    for selector, within in found:
        if selector.name not in METRICS:
            faults.append(f"there is no metric {selector.name}")
            continue
        kind, _, labels = METRICS[selector.name]
        matched = {matcher.name for matcher in selector.matchers.matchers}
        if strange := matched - {"bucket", *labels}:
            faults.append(f"{selector.name} has no label {', '.join(sorted(strange))}")
        if (kind == "counter") < any(name in COUNTING for name in within):
            faults.append(f"{selector.name} is a {kind}: it has no rate")
    if not faults and (strange := set(re.findall(r"(?:\$labels\.|\{\{)(\w+)", used)) - labels_of(parsed)):
        faults.append(f"the result has no label {', '.join(sorted(strange))}")
    return faults


def faults_of_alerts(document: Any) -> list[str]:
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    names = [rule["alert"] for rule in rules]
    faults = [f"{name} comes twice" for name in set(names) if names.count(name) > 1]
    for rule in rules:
        told = rule.get("annotations", {})
        found = faults_of(rule["expr"], " ".join(map(str, told.values())))
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            found.append("has no severity")
        if not {"summary", "description"} <= set(told):
            found.append("doesn't say what to do")
        faults += [f"{rule['alert']}: {fault}" for fault in found]
    return faults


def faults_of_dashboard(document: Any) -> list[str]:
    faults, places, numbers = [], [], []
    for panel in document["panels"]:
        place = panel["gridPos"]
        places += [(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])]
        numbers.append(panel["id"])
        for target in panel["targets"]:
            found = faults_of(target["expr"], target["legendFormat"])
            faults += [f"{panel['title']}: {fault}" for fault in found]
    if len(places) != len(set(places)):
        faults.append("panels overlap")
    if len(numbers) != len(set(numbers)):
        faults.append("two panels have one number")
    return faults


def test_the_alert_rules_can_be_meant() -> None:
    assert faults_of_alerts(ALERTS) == []
    assert sum(len(group["rules"]) for group in ALERTS["groups"]) >= 8


def test_the_dashboard_can_be_meant() -> None:
    assert faults_of_dashboard(DASHBOARD) == []
    assert len(DASHBOARD["panels"]) >= 8


BROKEN: dict[str, tuple[str, str]] = {
    "s3gc_upp == 0": ("", "there is no metric s3gc_upp"),
    "s3gc_up ==": ("", "no PromQL"),
    "s3gc_up == 0)": ("", "no PromQL"),
    "rate(s3gc_runs_total)": ("", "no PromQL"),
    "rats(s3gc_runs_total[1d])": ("", "no PromQL"),
    "time() - 5": ("", "names no metric"),
    's3gc_up{part="store"} == 0': ("", "s3gc_up has no label part"),
    "rate(s3gc_up[5m]) > 0": ("", "s3gc_up is a gauge"),
    "s3gc_up == 0": ("{{ $labels.part }} is down", "the result has no label part"),
    "sum(s3gc_up) == 0": ("{{ $labels.bucket }} is down", "the result has no label bucket"),
    "sum by (bucket) (s3gc_part_up)": ("{{part}}", "the result has no label part"),
    "s3gc_up == 0 or s3gc_upp == 0": ("", "there is no metric s3gc_upp"),
}


@pytest.mark.parametrize("expression", BROKEN)
def test_a_broken_expression_is_found(expression: str) -> None:
    used, fault = BROKEN[expression]
    (found,) = faults_of(expression, used)
    assert fault in found


def drop_severity(rule: dict[str, Any]) -> None:
    rule["labels"].pop("severity")


def drop_description(rule: dict[str, Any]) -> None:
    rule["annotations"].pop("description")


def misspell(rule: dict[str, Any]) -> None:
    rule["expr"] = rule["expr"].replace("s3gc_", "sgc3_")


@pytest.mark.parametrize("spoil", [drop_severity, drop_description, misspell])
def test_a_broken_rule_is_found(spoil: Callable[[dict[str, Any]], None]) -> None:
    for number in range(len(ALERTS["groups"][0]["rules"])):
        document = copy.deepcopy(ALERTS)
        spoil(document["groups"][0]["rules"][number])
        assert faults_of_alerts(document) != []


def test_a_rule_that_comes_twice_is_found() -> None:
    document = copy.deepcopy(ALERTS)
    document["groups"][0]["rules"] *= 2
    assert faults_of_alerts(document) != []


def test_a_broken_dashboard_is_found() -> None:
    for number in range(1, len(DASHBOARD["panels"])):
        document = copy.deepcopy(DASHBOARD)
        document["panels"][number]["targets"][-1]["expr"] = "s3gc_upp"
        assert faults_of_dashboard(document) != []
        document = copy.deepcopy(DASHBOARD)
        document["panels"][number]["gridPos"] = DASHBOARD["panels"][0]["gridPos"]
        assert "panels overlap" in faults_of_dashboard(document)
        document = copy.deepcopy(DASHBOARD)
        document["panels"][number]["id"] = DASHBOARD["panels"][0]["id"]
        assert "two panels have one number" in faults_of_dashboard(document)

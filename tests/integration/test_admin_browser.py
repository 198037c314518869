"""The dashboard in a real browser, on a real PostgreSQL and an S3 server: look, run, explain, restore."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest
from attrs import frozen
from axe_core_python.selenium import Axe  # type: ignore[import-untyped]
from fastapi import FastAPI
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from fixtures_admin import BASE, OPERATOR, serve
from fixtures_browser import DESKTOP, PHONE, browser
from fixtures_databases import postgres_server, postgres_url  # noqa: F401
from fixtures_s3 import (  # noqa: F401
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    S3Client,
    S3Server,
    bucket,
    s3_server,
    truth,
)
from s3gc import Safety, create_config
from s3gc_fastapi import setup_s3gc_plugin

LIVE = {"avatars/1.jpg": b"one", "docs/a b.pdf": b"two"}
ORPHANS = {
    "old/<b>bold<.png": b"three",
    "old/u\u0308.txt": b"four",
    "old/plain.bin": bytes(range(256)) * 64,
}
UI = f"{BASE}/ui"
PATIENCE = 60.0


@frozen
class Stage:
    """Where the dashboard is, and the bucket behind it."""

    address: str
    client: S3Client
    bucket: str
    database: str

    def objects(self) -> dict[str, tuple[bytes, str, dict[str, str]]]:
        """Bytes, content type and metadata of each object that isn't s3gc's own."""
        found = {}
        for each in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", []):
            if not each["Key"].startswith(".s3gc/"):
                answer = self.client.get_object(Bucket=self.bucket, Key=each["Key"])
                found[each["Key"]] = (answer["Body"].read(), answer["ContentType"], answer["Metadata"])
        return found


@pytest.fixture
def stage(
    truth: S3Client,
    bucket: str,
    s3_server: S3Server,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    for key, body in (LIVE | ORPHANS).items():
        truth.put_object(Bucket=bucket, Key=key, Body=body, ContentType="image/png", Metadata={"of": "mine"})
    sql(
        postgres_url,
        "CREATE TABLE files (id serial PRIMARY KEY, location text)",
        *(f"INSERT INTO files (location) VALUES ('{key}')" for key in LIVE),
    )
    config = create_config(
        bucket,
        region=REGION,
        endpoint_url=s3_server.endpoint_url,
        database_url=postgres_url,
        tables={"files": ["location"]},
        vault_path=tmp_path / "vault",
        mode="execute",
        retention_days=0,
        safety=Safety.demo(),
        admin_api_key=OPERATOR,
    )
    app = FastAPI()
    setup_s3gc_plugin(app, config)
    with serve(app) as address:
        yield Stage(address, truth, bucket, postgres_url)


def sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    anyio.run(run)


class Person:
    """Somebody in front of the browser."""

    def __init__(self, driver: Chrome, stage: Stage) -> None:
        self.driver = driver
        self.stage = stage

    def go(self, path: str = "") -> None:
        self.driver.get(f"{self.stage.address}{UI}{path}")

    def log_in(self) -> None:
        self.go()
        self.find("input[name=key]").send_keys(OPERATOR + Keys.ENTER)
        self.wait_for("Log out")

    def find(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def press(self, words: str) -> None:
        self.driver.find_element(
            By.XPATH, f"//button[contains(., '{words}')] | //a[contains(., '{words}')]"
        ).click()

    @property
    def text(self) -> str:
        return str(self.find("body").text)

    def wait_for(self, words: str) -> None:
        # The page may be replaced by the next one while it is read.
        wait = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[WebDriverException])
        wait.until(lambda _: words in self.text)

    def complaints(self) -> list[str]:
        """What the browser says of the page: refused scripts and styles, errors, failed requests."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def person(stage: Stage) -> Iterator[Person]:
    with browser() as driver:
        yield Person(driver, stage)


@pytest.mark.slow
def test_look_run_explain_and_restore_to_the_last_byte(person: Person, stage: Stage) -> None:
    before = stage.objects()
    person.log_in()
    assert "Healthy" in person.text
    person.press("Make a plan")
    person.wait_for("See the plan")
    person.press("See the plan")
    for key in ("old/<b>bold<.png", "old/plain.bin"):
        assert key in person.text

    person.go()
    person.press("Run a cycle")
    person.press("Run")  # without the tick nothing happens
    assert stage.objects() == before
    person.find("input[name=confirmed]").click()
    person.press("Run")
    person.wait_for("Restore what it deleted")
    assert set(stage.objects()) == set(LIVE)

    person.press("old/<b>bold<.png")
    assert "deleted by s3gc at" in person.text
    person.press("Restore it")
    assert person.find("input[name=value]").get_attribute("value") == "old/<b>bold<.png"
    person.press("Preview")
    assert "Would be restored: 1" in person.text
    assert set(stage.objects()) == set(LIVE)
    person.find("input[name=confirmed]").click()
    person.driver.find_element(By.CSS_SELECTOR, ".confirm button").click()
    person.wait_for("Restored: 1")
    assert set(stage.objects()) == {*LIVE, "old/<b>bold<.png"}

    person.go("/operations")
    rows = person.driver.find_elements(By.CSS_SELECTOR, "tbody tr")
    next(row for row in rows if "collect" in row.text).find_element(By.TAG_NAME, "a").click()
    person.press("Restore what it deleted")
    person.press("Preview")
    person.find("input[name=confirmed]").click()
    person.driver.find_element(By.CSS_SELECTOR, ".confirm button").click()
    person.wait_for("Restored: 2")
    assert stage.objects() == before
    assert person.complaints() == []


@pytest.mark.slow
def test_a_held_cycle_is_seen_and_acknowledged(person: Person, stage: Stage) -> None:
    sql(stage.database, "DELETE FROM files")
    before = stage.objects()
    person.log_in()
    person.go("/run")
    person.find("input[name=confirmed]").click()
    person.press("Run")
    person.wait_for("held")
    person.go()
    assert "no_references" in person.text
    assert stage.objects() == before
    while person.driver.find_elements(By.CSS_SELECTOR, "input[name=reason]"):
        person.find("input[name=reason]").send_keys("a new database" + Keys.ENTER)
        WebDriverWait(person.driver, PATIENCE).until(lambda d: d.current_url.endswith("/breakers"))
        person.go()
    person.go("/breakers")
    person.wait_for("None waits")


@pytest.mark.slow
def test_the_keyboard_is_enough(person: Person) -> None:
    person.log_in()

    def tab_to(words: str) -> None:
        for _ in range(40):
            ActionChains(person.driver).send_keys(Keys.TAB).perform()
            if words in str(person.driver.switch_to.active_element.text):
                return
        raise AssertionError(f"the keyboard doesn't reach {words!r}")

    tab_to("Skip to the content")
    assert person.driver.switch_to.active_element.location["x"] >= 0, "the link that has the focus is seen"
    tab_to("Make a plan")
    outline = person.driver.switch_to.active_element.value_of_css_property("outline-style")
    assert outline == "solid"
    ActionChains(person.driver).send_keys(Keys.ENTER).perform()
    person.wait_for("See the plan")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_has_a_serious_fault_or_is_too_wide(stage: Stage, size: tuple[int, int], dark: bool) -> None:
    with browser(size=size, dark=dark) as driver:
        person = Person(driver, stage)
        pages = ["/login", "", "/plan", "/operations", "/explain?s3_key=avatars/1.jpg", "/restore", "/vault"]
        person.go("/login")
        faults = _faults(driver)
        person.log_in()
        person.go("/run")
        person.find("input[name=confirmed]").click()
        person.press("Run")
        person.wait_for("Restore what it deleted")
        operation = driver.current_url.partition(UI)[2]
        for page in [*pages[1:], "/breakers", "/run", operation]:
            person.go(page)
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            assert wide <= size[0], f"{page} is {wide} wide"
            faults += [f"{page}: {fault}" for fault in _faults(driver)]
        assert faults == []
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(13, 17, 23)") is dark


def _faults(driver: Chrome) -> list[str]:
    """What axe calls serious or critical."""
    found = Axe().run(driver)
    return [
        f"{each['id']} {json.dumps([node['target'] for node in each['nodes']][:3])}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]

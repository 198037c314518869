"""The dashboard in a real browser, on a real PostgreSQL and an S3 server: look, run, explain, restore."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import asyncpg  # type: ignore[import-untyped]
import pytest
from attrs import frozen
from axe_core_python.selenium import Axe  # type: ignore[import-untyped]
from fastapi import FastAPI
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from fixtures_admin import BASE, OPERATOR, serve
from fixtures_browser import DESKTOP, PHONE, browser, look
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
T = TypeVar("T")


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
    """Somebody in front of the browser, who looks again when a page was replaced while it was read."""

    def __init__(self, driver: Chrome, stage: Stage) -> None:
        self.driver = driver
        self.stage = stage

    def until(self, look: Callable[[], T]) -> T:
        """What ``look`` finds, once it finds something; a page may be replaced under its hands."""
        wait = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=[WebDriverException])
        return wait.until(lambda _: look())

    def go(self, path: str = "") -> None:
        self.driver.get(f"{self.stage.address}{UI}{path}")

    def log_in(self) -> None:
        self.go()
        self.write("input[name=key]", OPERATOR + Keys.ENTER)
        self.sees("Log out")

    def find(self, css: str) -> Any:
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, css))

    def _use(self, how: str, what: str, act: Callable[[Any], object]) -> None:
        """Find and use. Only what was not done is tried again: a stale or hidden element takes no click."""

        def attempt() -> bool:
            act(self.driver.find_element(how, what))
            return True

        self.until(attempt)

    def press(self, words: str) -> None:
        """The button or link that says exactly this, or begins so and goes on with dots."""
        said = f"normalize-space() = '{words}' or normalize-space() = '{words} …'"
        self._use(By.XPATH, f"//main//button[{said}] | //main//a[{said}]", lambda found: found.click())

    def tick(self, name: str) -> None:
        self._use(By.CSS_SELECTOR, f"main input[name={name}]", lambda found: found.click())

    def write(self, css: str, text: str) -> None:
        self._use(By.CSS_SELECTOR, css, lambda found: found.send_keys(text))

    @property
    def text(self) -> str:
        return str(self.until(lambda: self.driver.find_element(By.TAG_NAME, "body").text))

    def sees(self, *words: str) -> None:
        """Wait until the page says all this."""
        found = ""

        def look() -> bool:
            nonlocal found
            found = self.driver.find_element(By.TAG_NAME, "body").text
            return all(each in found for each in words)

        try:
            self.until(look)
        except TimeoutException:
            raise AssertionError(f"no {words} in {self.driver.current_url}: {found}") from None

    def complaints(self) -> list[str]:
        """What the browser says of the page: refused scripts and styles, errors, failed requests."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    """One browser for all tests: to start one takes longer than most of them."""
    with browser() as driver:
        yield driver


@pytest.fixture
def person(window: Chrome, stage: Stage) -> Iterator[Person]:
    window.execute_cdp_cmd("Network.clearBrowserCookies", {})
    window.get_log("browser")
    look(window, DESKTOP, dark=False)
    yield Person(window, stage)
    window.get("about:blank")  # a page that listens to events would keep the server from stopping


@pytest.mark.slow
def test_look_run_explain_and_restore_to_the_last_byte(person: Person, stage: Stage) -> None:
    before = stage.objects()
    person.log_in()
    person.sees("Healthy")
    person.press("Make a plan")
    person.sees("See the plan")
    person.press("See the plan")
    person.sees("old/<b>bold<.png", "old/plain.bin")

    person.go()
    person.press("Run a cycle")
    person.press("Run")  # without the tick nothing happens
    assert stage.objects() == before
    person.tick("confirmed")
    person.press("Run")
    person.sees("Restore what it deleted")
    assert set(stage.objects()) == set(LIVE)

    person.press("old/<b>bold<.png")
    person.sees("deleted by s3gc at")
    person.press("Restore it")
    person.sees("One object, by its key")
    assert person.find("input[name=value]").get_attribute("value") == "old/<b>bold<.png"
    person.press("Preview")
    person.sees("Would be restored: 1")
    assert set(stage.objects()) == set(LIVE)
    person.tick("confirmed")
    person.press("Restore")
    person.sees("Restored: 1")
    assert set(stage.objects()) == {*LIVE, "old/<b>bold<.png"}

    person.go("/operations")
    collect = "//tbody/tr[td[2][starts-with(normalize-space(), 'collect')]]//a"
    person._use(By.XPATH, collect, lambda found: found.click())
    person.press("Restore what it deleted")
    person.press("Preview")
    person.sees("Would be restored: 2")
    person.tick("confirmed")
    person.press("Restore")
    person.sees("Restored: 2")
    assert stage.objects() == before
    assert person.complaints() == []


@pytest.mark.slow
def test_a_held_cycle_is_seen_and_acknowledged(person: Person, stage: Stage) -> None:
    sql(stage.database, "DELETE FROM files")
    before = stage.objects()
    person.log_in()
    person.go("/run")
    person.tick("confirmed")
    person.press("Run")
    person.sees("held")
    person.go("/breakers")
    person.sees("no_references")
    assert stage.objects() == before
    while waiting := len(person.driver.find_elements(By.CSS_SELECTOR, ".breaker")):
        person.write("input[name=reason]", "a new database" + Keys.ENTER)
        person.until(lambda: len(person.driver.find_elements(By.CSS_SELECTOR, ".breaker")) < waiting)
    person.sees("None waits")


@pytest.mark.slow
def test_checks_are_begun_and_read(person: Person, stage: Stage) -> None:
    sql(stage.database, "INSERT INTO files (location) VALUES ('gone/a.jpg')")
    person.log_in()
    person.go("/missing")
    person.press("Look for them")
    person.sees("1 mention of what doesn't exist", "gone/a.jpg")
    person.go("/vault")
    person.press("Read backups")
    person.sees("0 backups read, 0 problems")
    assert person.complaints() == []


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
    person.sees("See the plan")


@pytest.mark.slow
def test_no_page_has_a_serious_fault_or_is_too_wide(person: Person) -> None:
    """Of contrast light and dark are looked at, of what only fits on some screens the widest and a phone."""
    sql(person.stage.database, f"INSERT INTO files (location) VALUES ('gone/{'long' * 30}.jpg')")
    person.go("/login")
    person.sees("Log in")
    faults = [f"/login: {fault}" for fault in _faults(person.driver)]
    person.log_in()
    person.go("/missing")
    person.press("Look for them")
    person.sees("1 mention")
    person.go("/run")
    person.tick("confirmed")
    person.press("Run")
    person.sees("Restore what it deleted")
    operation = person.driver.current_url.partition(UI)[2]
    pages = ["", "/plan", "/operations", "/explain?s3_key=old/plain.bin", "/restore", "/missing", "/breakers"]
    for page in [*pages, "/vault", "/report", "/run", operation]:
        person.go(page)
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                look(person.driver, size, dark=dark)
                wide = person.driver.execute_script("return document.documentElement.scrollWidth")
                if wide > size[0]:
                    faults.append(f"{page} is {wide} wide on {size[0]}")
                ground = person.driver.execute_script(
                    "return getComputedStyle(document.body).backgroundColor"
                )
                assert (ground == "rgb(13, 17, 23)") is dark
                if (size is PHONE) is dark:
                    faults += [f"{page}: {fault}" for fault in _faults(person.driver)]
    assert faults == []


def _faults(driver: Chrome) -> list[str]:
    """What axe calls serious or critical."""
    found = Axe().run(driver)
    return [
        f"{each['id']} {json.dumps([node['target'] for node in each['nodes']][:3])}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]

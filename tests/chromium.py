"""A headless Chromium for tests of pages.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and selenium;
without them the tests are skipped and say so.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # a container's shared memory may be too small for a tab
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser that records its console and what it asks of servers.

    Args:
        profile: An empty folder.
    """
    driver_path = shutil.which("chromedriver")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver_path and browser_path):
        pytest.skip("pages are not looked at: chromium or chromedriver is not installed")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="pages are not looked at: selenium is not installed"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = browser_path
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()

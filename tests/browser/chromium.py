"""A headless Chromium that notes every request it makes."""

import contextlib
import json
import pathlib
import shutil
import tempfile
from urllib.parse import urlsplit

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # of a container's root
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1200,900",
)


@contextlib.contextmanager
def page(path):
    """Yields a driver with a file opened; skips where there is no browser.

    Args:
        path: The HTML file.
    """
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip(
            "Chromium and its driver are not installed; on Debian: apt-get "
            "install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location, driver_path = programs
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(driver_path)
        driver = webdriver.Chrome(options, service)
        try:
            # The browser's own first page asks for its parts.
            driver.get("about:blank")
            driver.get_log("performance")
            driver.get(pathlib.Path(path).resolve().as_uri())
            yield driver
        finally:
            driver.quit()


def requests(driver):
    """The addresses that the page has asked for until now."""
    messages = [
        json.loads(entry["message"])["message"]
        for entry in driver.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def check_map(path, num_images):
    """Uses the page of `cluster.py` as a reader does.

    Args:
        path: The HTML file.
        num_images: Integer, how many it should show.
    """
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    with page(path) as driver:
        circles = driver.find_elements(By.CSS_SELECTOR, "circle[tabindex]")
        assert len(circles) == num_images
        hover = driver.find_element(By.ID, "hover")
        details = driver.find_element(By.ID, "details")
        assert not hover.is_displayed()
        assert details.text == "No image is chosen."

        # The one that is drawn last lies above the others.
        last = circles[-1]
        name = last.get_attribute("aria-label").split(",")[0]
        ActionChains(driver).move_to_element(last).perform()
        assert hover.is_displayed()
        assert hover.text.startswith(name)
        assert _is_drawn(driver, hover.find_element(By.TAG_NAME, "img"))

        ActionChains(driver).click(last).perform()
        cards = details.find_elements(By.CLASS_NAME, "card")
        assert len(cards) == 1 + min(8, num_images - 1)
        assert cards[0].text.startswith(name)
        similar = [float(card.text.split()[-1]) for card in cards[1:]]
        assert similar == sorted(similar, reverse=True)
        for card in cards:
            assert _is_drawn(driver, card.find_element(By.TAG_NAME, "img"))

        # A neighbour is chosen in its turn, and arrows go on from there.
        second = cards[1].get_attribute("title")
        cards[1].click()
        cards = details.find_elements(By.CLASS_NAME, "card")
        assert cards[0].get_attribute("title") == second
        driver.execute_script("arguments[0].focus()", circles[0])
        ActionChains(driver).send_keys(Keys.ARROW_RIGHT, Keys.ENTER).perform()
        cards = details.find_elements(By.CLASS_NAME, "card")
        chosen = circles[1].get_attribute("aria-label").split(",")[0]
        assert cards[0].text.startswith(chosen)

        # A cluster alone, and all again.
        button = driver.find_element(By.CSS_SELECTOR, "#legend button")
        size = int(button.text.split("(")[1].rstrip(")").replace(",", ""))
        button.click()
        faded = driver.find_elements(By.CSS_SELECTOR, "circle.faded")
        assert len(faded) == num_images - size
        button.click()
        assert not driver.find_elements(By.CSS_SELECTOR, "circle.faded")

        asked_for = requests(driver)
        assert asked_for  # the page itself
        outside = [
            address
            for address in asked_for
            if urlsplit(address).scheme not in ("file", "data", "chrome")
        ]
        assert not outside, outside


def _is_drawn(driver, image):
    return driver.execute_script(
        "return arguments[0].complete && arguments[0].naturalWidth > 0", image
    )

#!/usr/bin/env python3
"""Make the README's picture of a report: outputs in light colours, and tables on a dark phone.

Run after ``make quickstart``::

    fairseq-pdd report examples/quickstart/runs/default/records --out report.html
    python docs/screenshot.py report.html docs/report.png
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HEIGHT, DESKTOP, PHONE, GAP = 820, 1080, 390, 24
COLOURS = 128  # few colours keep the file small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="page written by fairseq-pdd report")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--system", help="system whose outputs are shown (default: the first)")
    args = parser.parse_args()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        desktop = outputs(opened(browser, args.report, DESKTOP, "light"), args.system)
        phone = picture(opened(browser, args.report, PHONE, "dark"))
        browser.close()
    both = Image.new("RGB", (DESKTOP + GAP + PHONE, HEIGHT), "white")
    both.paste(desktop, (0, 0))
    both.paste(phone, (DESKTOP + GAP, 0))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    both.quantize(COLOURS, dither=Image.Dither.NONE).save(args.out, optimize=True)
    print(f"wrote {args.out}, {args.out.stat().st_size / 1000:.0f} kB")


def opened(browser: Browser, report: Path, width: int, scheme: str) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(report.resolve().as_uri())
    page.locator(".sentence").first.wait_for()
    return page


def outputs(page: Page, system: "str | None") -> Image.Image:
    """Show the most uncertain outputs of the test set, with the values of one token."""
    if system is not None:
        page.select_option("#system", label=system)
    page.select_option("#order", value="descending")
    page.evaluate("document.getElementById('outputs').scrollIntoView()")
    page.locator("#sentences .tokens").first.locator(".token").nth(1).hover()
    return picture(page)


def picture(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot()))


if __name__ == "__main__":
    main()

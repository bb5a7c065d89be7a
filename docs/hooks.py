"""What the site does for its second language: Persian pages are Persian, right to left."""

PERSIAN = "fa/"
GUIDE = "guide/"


def on_page_context(context, page, config, nav):
    """The theme's own words and direction, and the way to the same page in the other language."""
    persian = page.url.startswith(PERSIAN)
    config.theme["language"] = "fa" if persian else "en"
    english, other = _counterparts(page.url, {file.url for file in context["pages"]})
    config.extra["alternate"] = [
        {"name": "English", "link": english, "lang": "en"},
        {"name": "فارسی", "link": other, "lang": "fa"},
    ]
    return context


def on_env(env, config, files):
    """The page "not found" is rendered before the others, and in English."""
    config.theme["language"] = "en"
    return env


def _counterparts(url, urls):
    """A page's address in English and in Persian; the start of the language where it has none."""
    if url.startswith(PERSIAN):
        english = GUIDE + url.removeprefix(PERSIAN)
        return (english if english in urls else "./"), url
    other = PERSIAN + url.removeprefix(GUIDE)
    return url or "./", (other if url.startswith(GUIDE) and other in urls else PERSIAN)

"""The words of the grammar. Human nouns alone have a number that the verb must follow."""

from __future__ import annotations

from typing import NamedTuple

HALF_SPACE = "\u200c"


class Noun(NamedTuple):
    """A human noun. Its forms follow from its last letter."""

    singular: str

    @property
    def plural(self) -> str:
        """With ـان: معلمان, نویسندگان, دانشجویان, مربیان."""
        stem, last = self.singular[:-1], self.singular[-1]
        return {"ه": stem + "گان", "و": self.singular + "یان", "ی": stem + "یان"}.get(
            last, self.singular + "ان"
        )

    def form(self, number: str) -> str:
        """Singular or plural."""
        return self.plural if number == "plural" else self.singular


def linked(noun: str) -> str:
    """A noun with the ezafe that ties an adjective to it, where it is written."""
    return noun + {"ه": "\u0654", "و": "ی"}.get(noun[-1], "")


def defined(noun: str) -> str:
    """A noun with the ی that a relative clause asks for."""
    endings = {"ه": HALF_SPACE + "ای", "ی": HALF_SPACE + "ای", "و": "یی"}
    return noun + endings.get(noun[-1], "ی")


_HUMAN = (
    "آشپز بازیکن پرستار پزشک پژوهشگر خبرنگار دانش\u200cآموز داور سرباز شاعر کارگر کارمند کشاورز "
    "گردشگر مدیر معلم مهندس نقاش نگهبان هنرمند ورزشکار دانشجو مربی خواننده راننده فروشنده نماینده "
    "نویسنده همسایه"
)
NOUNS = [Noun(word) for word in _HUMAN.split()]
ADJECTIVES = ("ایرانی", "باتجربه", "برجسته", "پرتلاش", "جوان", "خوش\u200cاخلاق", "سرشناس", "موفق")
NUMERALS = ("دو", "سه", "چهار", "پنج", "چند")
EVERY, THESE = "هر", ("این", "آن")

# What brings another person between subject and verb; nothing that could mean "together with".
MENTIONS = (
    "به درخواست",
    "به دعوت",
    "به سفارش",
    "با کمک",
    "با اجازه",
    "برخلاف نظر",
    "در غیاب",
    "پس از گفتگو با",
    "پیش از دیدار با",
    "به توصیه",
)

# Clauses whose verb has no number, each closed by «و», as long Persian sentences chain them.
PARTICIPLES = (
    "در مسابقه شرکت کرده",
    "به مرحله نهایی رسیده",
    "از آزمون سربلند بیرون آمده",
    "به پایتخت سفر کرده",
    "گزارش را خوانده",
    "در جلسه حاضر شده",
    "راه درازی پیموده",
    "از کوه بالا رفته",
    "نامه را امضا کرده",
    "درباره برنامه سخن گفته",
    "چند روز استراحت کرده",
    "زبان تازه\u200cای آموخته",
    "به پرسش\u200cها پاسخ داده",
    "کار را به پایان رسانده",
    "از شهر دور شده",
    "شب را در روستا گذرانده",
    "با دشواری روبرو شده",
    "همه چیز را آماده کرده",
    "در کتابخانه درس خوانده",
    "پیشنهاد را پذیرفته",
)
ADVERBIALS = (
    "سرانجام",
    "دیروز",
    "امسال",
    "بارها",
    "خوشبختانه",
    "به آرامی",
    "با شتاب",
    "در پایان سال",
    "پس از مدتی",
    "با وجود باران",
    "در هوای سرد",
    "برای نخستین بار",
    "بدون هیچ تردیدی",
    "در شهری دور از خانه",
)

# What stands before the verb, the verb with a singular subject, and with a plural one.
PREDICATES = (
    ("به مقام نخست دست پیدا", "کرد", "کردند"),
    ("از همه سپاسگزاری", "کرد", "کردند"),
    ("به خانه", "رفت", "رفتند"),
    ("جایزه", "گرفت", "گرفتند"),
    ("به موفقیت بزرگی", "رسید", "رسیدند"),
    ("نامه بلندی", "نوشت", "نوشتند"),
    ("با شادی", "بازگشت", "بازگشتند"),
    ("در پایان برنده", "شد", "شدند"),
)
RELATIVE_VERBS = (
    ("دید", "دیدند"),
    ("شناخت", "شناختند"),
    ("دعوت کرد", "دعوت کردند"),
    ("انتخاب کرد", "انتخاب کردند"),
)
WHO, OBJECT, AND = "که", "را", "و"

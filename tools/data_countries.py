"""Which countries the built-in country tasks hold, and what the packages do not say rightly.

`build_data.py` takes names, capitals, languages and currencies from packages and lets these tables
overrule them. A country with no single right answer is left out of that task, with the reason.
All keys are ISO 3166 codes (XK is Kosovo's usual one).
"""

# The members of the United Nations, ...
MEMBERS = """
AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA CD CF CG CH
CI CL CM CN CO CR CU CV CY CZ DE DJ DK DM DO DZ EC EE EG ER ES ET FI FJ FM FR GA GB GD GE GH GM GN
GQ GR GT GW GY HN HR HT HU ID IE IL IN IQ IR IS IT JM JO JP KE KG KH KI KM KN KP KR KW KZ LA LB LC
LI LK LR LS LT LU LV LY MA MC MD ME MG MH MK ML MM MN MR MT MU MV MW MX MY MZ NA NE NG NI NL NO NP
NR NZ OM PA PE PG PH PK PL PT PW PY QA RO RS RU RW SA SB SC SD SE SG SI SK SL SM SN SO SR SS ST SV
SY SZ TD TG TH TJ TL TM TN TO TR TT TV TZ UA UG US UY UZ VC VE VN VU WS YE ZA ZM ZW
"""
# ... and the best known states and territories beside them.
BESIDE_MEMBERS = "AW BM CW FO GF GI GL GP GU HK KY MO MQ NC PF PR PS TW VA XK"

# Where the English name of CLDR is not the one that running text uses.
COUNTRY_NAMES = {
    "BA": "Bosnia and Herzegovina",
    "CD": "Democratic Republic of the Congo",
    "CG": "Republic of the Congo",
    "CI": "Ivory Coast",
    "CZ": "Czech Republic",
    "HK": "Hong Kong",
    "MM": "Myanmar",
    "MO": "Macau",
    "PS": "Palestine",
    "TL": "East Timor",
    "TR": "Turkey",
    "VC": "Saint Vincent and the Grenadines",
}

# Corrections: five capitals that countryinfo has not followed, calls otherwise or has not at all,
# then spellings.
CAPITALS = {
    "BI": "Gitega",
    "KZ": "Astana",
    "SZ": "Mbabane",
    "VA": "Vatican City",
    "XK": "Pristina",
    "AG": "St. John's",
    "PF": "Papeete",
    "SM": "San Marino",
    "US": "Washington, D.C.",
}
# No single right answer: Equatorial Guinea is moving in 2026, Sri Lanka and Palestine each have two
# cities with a claim, and Hong Kong and Macau have no capital.
WITHOUT_CAPITAL = "GQ HK LK MO PS"

# Where CLDR's first official language is not the best known one, or has a name few people use.
LANGUAGES = {
    "AF": "Pashto",
    "AW": "Papiamento",
    "BA": "Bosnian",
    "BD": "Bengali",
    "BI": "Kirundi",
    "CF": "French",
    "CN": "Mandarin",
    "GL": "Greenlandic",
    "HK": "Cantonese",
    "KM": "Comorian",
    "KZ": "Kazakh",
    "LS": "Sesotho",
    "LU": "Luxembourgish",
    "ME": "Montenegrin",
    "MH": "Marshallese",
    "MO": "Cantonese",
    "MU": "English",
    "MV": "Dhivehi",
    "MW": "Chichewa",
    "NR": "Nauruan",
    "PH": "Filipino",
    "PY": "Spanish",
    "RS": "Serbian",
    "SC": "Seychellois Creole",
    "SD": "Arabic",
    "SN": "French",
    "SZ": "Swazi",
    "TD": "French",
    "TV": "Tuvaluan",
    "TW": "Mandarin",
    "UG": "English",
}
# Burkina Faso, Mali and Niger have taken away the official rank of French, and no language of South
# Africa stands above the others.
WITHOUT_LANGUAGE = "BF ML NE ZA"

# Where two currencies are legal tender the country's own is meant; Bulgaria has the euro since the
# first day of 2026.
CURRENCIES = {
    "BG": "euro",
    "BT": "ngultrum",
    "HT": "gourde",
    "LS": "loti",
    "NA": "dollar",
    "PA": "balboa",
    "PS": "shekel",
}
# Zimbabwe replaced its own currency again in 2024 and uses US dollars beside it.
WITHOUT_CURRENCY = "ZW"

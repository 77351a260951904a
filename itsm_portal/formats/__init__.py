"""How days are written, by language; times are written alike in all: 24 hours. Used by name, for example
`date_format(day, "MONTH_DAY_FORMAT")`.
"""

"""The report of a run: one HTML page with all its figures inside.

report_data: all that the page says, read and checked before anything is written
figures: what is drawn     drawing: in which colours, as SVG and PNG
page: the templates and style.css filled in, and written
"""

from digit_recognizer.reports.page import write, write_differences

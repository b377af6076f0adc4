"""The report of a run: one HTML page with all its figures inside.

report_data: all that the page says, read and checked before anything is written
figures: what is drawn     drawing: in which colours, as SVG and PNG
page: template.html and style.css filled in, and the folder written
"""

from digit_recognizer.reports.page import write

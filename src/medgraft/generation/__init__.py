"""Images that are drawn: learnt from real ones, judged, asked whether they are copies, and put to use."""

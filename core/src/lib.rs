//! Words that all of Hearth shares, without I/O.

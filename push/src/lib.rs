//! Push rules, unread counts, pushers.

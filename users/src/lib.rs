//! Accounts, devices, tokens, profiles, keys, to-device, presence.

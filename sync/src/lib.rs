//! One diff engine, three faces: /sync, sliding sync, WebSocket.

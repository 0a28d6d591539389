//! Who may import what, read off the sources: the layout is a promise about what a room can do.
//!
//! Plain text is enough: comments and test modules are left out, and every rule also fails when what
//! it watches is nowhere, so that a renamed file cannot make it empty.

mod imports;
mod rooms;
mod source;

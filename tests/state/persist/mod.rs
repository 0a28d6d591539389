//! The files of psid: formats, modes, damage and failing disks.

mod damaged;
mod disk;
mod files;
mod keys;
mod second_psid;
mod syscalls;
mod unreadable;

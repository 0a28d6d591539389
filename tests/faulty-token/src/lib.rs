//! A PKCS#11 module in front of another one, `$FAULTY_TOKEN_MODULE`: it logs each call, and makes
//! the faults that files in `$FAULTY_TOKEN_DIRECTORY` name, which software tokens never have.
//!
//! | file | what it does |
//! |---|---|
//! | `calls` | is written here: the name of each call, a line each |
//! | `hang-NAME` | the call does not return while the file is there |
//! | `fail-NAME` | the call returns the number in the file, and does nothing |
//! | `until-initialized` | every call that uses a session returns the number in the file, until the next `C_Initialize`, which removes it |
//! | `flags` | a number: more flags in `CK_TOKEN_INFO` |
//! | `absurd` | `C_Decrypt` claims an output as long as all memory |
//! | `pulled` | the token is out of its slot; what was opened stays dead until the next `C_Initialize`, as after a restart of pcscd |

#![allow(non_snake_case, reason = "the names are C's")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cryptoki_sys::*;

/// Set while the module has not noticed that the token was out.
static IS_STALE: AtomicBool = AtomicBool::new(false);

/// The other module's functions.
fn real() -> &'static CK_FUNCTION_LIST {
    static REAL: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    REAL.get_or_init(|| {
        let path = std::env::var_os("FAULTY_TOKEN_MODULE").expect("FAULTY_TOKEN_MODULE");
        // SAFETY: it is a PKCS#11 module, whose C_GetFunctionList returns a list that does not
        // change.
        unsafe {
            let library = libloading::Library::new(path).expect("the module loads");
            let get: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*mut CK_FUNCTION_LIST_PTR) -> CK_RV,
            > = library.get(b"C_GetFunctionList").expect("C_GetFunctionList");
            let mut list = std::ptr::null_mut();
            assert_eq!(get(&mut list), CKR_OK);
            let list = *list;
            std::mem::forget(library);
            list
        }
    })
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("FAULTY_TOKEN_DIRECTORY").expect("FAULTY_TOKEN_DIRECTORY"))
        .join(name)
}

fn number(name: &str) -> Option<CK_ULONG> {
    fs::read_to_string(file(name)).ok()?.trim().parse().ok()
}

/// Whether the token is out, or was and the module has not been initialised since.
fn is_away() -> bool {
    if file("pulled").exists() {
        IS_STALE.store(true, Ordering::SeqCst);
    }
    IS_STALE.load(Ordering::SeqCst)
}

/// The return value of a call that is not made.
fn fault_of(call: &str) -> Option<CK_RV> {
    let calls = fs::OpenOptions::new().create(true).append(true).open(file("calls"));
    calls.and_then(|mut calls| calls.write_all(format!("{call}\n").as_bytes())).expect("calls");
    while file(&format!("hang-{call}")).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(value) = number(&format!("fail-{call}")) {
        return Some(value);
    }
    match call {
        "C_Initialize" => {
            IS_STALE.store(false, Ordering::SeqCst);
            let _ = fs::remove_file(file("until-initialized"));
            None
        }
        "C_Finalize" | "C_GetSlotList" => None,
        _ if number("until-initialized").is_some() => number("until-initialized"),
        _ if file("pulled").exists() && is_away() => Some(CKR_DEVICE_REMOVED),
        _ => is_away().then_some(CKR_SESSION_HANDLE_INVALID),
    }
}

macro_rules! functions {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(unsafe extern "C" fn $name($($arg: $type),*) -> CK_RV {
            if let Some(value) = fault_of(stringify!($name)) {
                return value;
            }
            // SAFETY: the caller's arguments, unchanged.
            unsafe { real().$name.expect(stringify!($name))($($arg),*) }
        })*

        /// The other module's list with these functions replaced.
        fn with_faults() -> CK_FUNCTION_LIST {
            let mut list = *real();
            $(list.$name = Some($name);)*
            list
        }
    };
}

functions! {
    C_Initialize(args: *mut std::ffi::c_void);
    C_Finalize(reserved: *mut std::ffi::c_void);
    C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG);
    C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO);
    C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, data: *mut std::ffi::c_void, notify: CK_NOTIFY, session: *mut CK_SESSION_HANDLE);
    C_CloseSession(session: CK_SESSION_HANDLE);
    C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_GetAttributeValue(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Decrypt(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, input_length: CK_ULONG, output: *mut CK_BYTE, output_length: *mut CK_ULONG);
    C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Sign(session: CK_SESSION_HANDLE, input: *mut CK_BYTE, input_length: CK_ULONG, output: *mut CK_BYTE, output_length: *mut CK_ULONG);
}

/// The functions whose results are changed.
fn list() -> CK_FUNCTION_LIST {
    CK_FUNCTION_LIST {
        C_GetSlotList: Some(slots_of_what_is_there),
        C_GetTokenInfo: Some(token_with_more_flags),
        C_Decrypt: Some(decryption_of_any_length),
        ..with_faults()
    }
}

unsafe extern "C" fn slots_of_what_is_there(
    present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> CK_RV {
    if is_away() {
        // SAFETY: the count is the caller's own.
        unsafe { *count = 0 };
        return CKR_OK;
    }
    // SAFETY: the caller's arguments, unchanged.
    unsafe { C_GetSlotList(present, slots, count) }
}

unsafe extern "C" fn token_with_more_flags(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged; the other module has filled in the info.
    unsafe {
        let done = C_GetTokenInfo(slot, info);
        if let (Some(flags), CKR_OK) = (number("flags"), done) {
            (*info).flags |= flags;
        }
        done
    }
}

unsafe extern "C" fn decryption_of_any_length(
    session: CK_SESSION_HANDLE,
    input: *mut CK_BYTE,
    input_length: CK_ULONG,
    output: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged; the length is the caller's own.
    unsafe {
        let done = C_Decrypt(session, input, input_length, output, length);
        if output.is_null() && file("absurd").exists() {
            *length = CK_ULONG::MAX;
        }
        done
    }
}

/// The entry point of a PKCS#11 module.
///
/// # Safety
/// `list` must be a valid pointer to the caller's list pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut CK_FUNCTION_LIST_PTR) -> CK_RV {
    static LIST: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
    let own = LIST.get_or_init(self::list);
    // SAFETY: the caller's contract. Nothing writes to the list.
    unsafe { *list = std::ptr::from_ref(own).cast_mut() };
    CKR_OK
}

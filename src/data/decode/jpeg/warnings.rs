//! libjpeg's error handler: damage that it only warns of is an error.

use mozjpeg_sys::{
    jpeg_common_struct, jpeg_error_mgr, jpeg_std_error, JWRN_ADOBE_XFORM, JWRN_BOGUS_ICC,
    JWRN_EXTRANEOUS_DATA, JWRN_JFIF_MAJOR, JWRN_NOT_SEQUENTIAL,
};
use std::any::Any;
use std::ffi::{c_int, CStr};
use std::panic::resume_unwind;

/// Level of a warning in libjpeg; trace messages have levels of at least 0.
const WARNING: c_int = -1;
/// Bytes that libjpeg may write for a message (JMSG_LENGTH_MAX).
const MESSAGE_BYTES: usize = 200;
/// Restart markers.
const RESTARTS: std::ops::RangeInclusive<u32> = 0xd0..=0xd7;

/// Returns an error handler that unwinds with libjpeg's message at every error, and at every warning
/// that means lost or invented pixels. It calls no panic hook.
pub(super) fn strict() -> jpeg_error_mgr {
    // SAFETY: all fields are integers, pointers and optional functions, for which zeros are valid;
    // libjpeg then sets every one it reads.
    let mut handler: jpeg_error_mgr = unsafe { std::mem::zeroed() };
    // SAFETY: `handler` is writable, and the pointer that is returned is not kept.
    unsafe { jpeg_std_error(&mut handler) };
    handler.error_exit = Some(fail);
    handler.emit_message = Some(warn);
    handler
}

/// Message of an unwound error.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| "the decoder panicked".into())
}

#[cold]
unsafe extern "C-unwind" fn fail(info: &mut jpeg_common_struct) {
    // SAFETY: libjpeg calls this with the handler of `strict` in place.
    resume_unwind(Box::new(unsafe { text(info) }));
}

#[cold]
unsafe extern "C-unwind" fn warn(info: &mut jpeg_common_struct, level: c_int) {
    // SAFETY: as in `fail`.
    if level == WARNING && !unsafe { is_harmless(info) } {
        resume_unwind(Box::new(unsafe { text(info) }));
    }
}

/// Whether a warning leaves the pixels as they should be: odd header fields, and bytes between the
/// coded data and the next marker, such as before the end-of-image marker.
unsafe fn is_harmless(info: &jpeg_common_struct) -> bool {
    // SAFETY: the handler outlives the decoder.
    let handler = unsafe { &*info.err };
    let is = |code: c_int, known: u32| u32::try_from(code) == Ok(known);
    if is(handler.msg_code, JWRN_EXTRANEOUS_DATA as u32) {
        // The parameters are the number of bytes and the marker after them. Bytes before a restart
        // marker are left over from rows that were decoded wrongly.
        return !RESTARTS.contains(&handler.msg_parm._bindgen_data_[1]);
    }
    [JWRN_ADOBE_XFORM, JWRN_JFIF_MAJOR, JWRN_NOT_SEQUENTIAL, JWRN_BOGUS_ICC]
        .iter()
        .any(|&known| is(handler.msg_code, known as u32))
}

/// libjpeg's message for the code in the handler.
unsafe fn text(info: &mut jpeg_common_struct) -> String {
    let mut buffer = [0_u8; MESSAGE_BYTES];
    // SAFETY: the handler outlives the decoder.
    let Some(format) = (unsafe { (*info.err).format_message }) else {
        return "no message".into();
    };
    // SAFETY: libjpeg writes to the buffer, although the declaration has a shared array of 80 bytes;
    // the functions differ in nothing but the type of that pointer.
    unsafe {
        let format = std::mem::transmute::<
            unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]),
            unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8),
        >(format);
        format(info, buffer.as_mut_ptr());
    }
    let written = CStr::from_bytes_until_nul(&buffer).map(CStr::to_string_lossy);
    written.map_or_else(|_| "no message".into(), |text| text.into_owned())
}

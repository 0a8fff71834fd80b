//! Side doors.

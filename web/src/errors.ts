/** Errors that a person can do something about; the words are those of `autohr.errors` and its callers. */

export class AutoHRError extends Error {}

export class SignalTooShort extends AutoHRError {}

export class NoFace extends AutoHRError {}

export class VideoError extends AutoHRError {}

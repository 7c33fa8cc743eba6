/** The colour of blood, as `autohr.classic.projection`. */

export const BLOOD_SIGNATURE: readonly [number, number, number] = [0.33, 0.77, 0.53];

/** The address of the icons, which the build fills in. */
declare const SPRITE: string;

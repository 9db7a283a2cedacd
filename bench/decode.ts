export async function benchDecode(): Promise<void> {}

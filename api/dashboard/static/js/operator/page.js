export function openOperatorPage() {}

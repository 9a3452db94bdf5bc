/* bcryptprimitives.dll for Wine 8, which lacks it: the one function that extensions written in Rust import. */
#include <windows.h>

#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T length);

BOOL WINAPI
ProcessPrng(BYTE *data, SIZE_T length)
{
    return RtlGenRandom(data, (ULONG)length);
}

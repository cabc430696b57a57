# What is fetched beside the flake's inputs, each by its hash.
{
  # The one CUDA compiler. nixpkgs has no CUDA 12.4 any more, and the wheel gives the same bytes as a plain build.
  # The hash is the SHA-256 of the file that PyPI serves; its URL is made of the file's BLAKE2b-256.
  nvrtc = {
    version = "12.4.127";
    url = "https://files.pythonhosted.org/packages/2c/14/91ae57cd4db3f9ef7aa99f4019cfa8d54cb4caa7e00975df6467e9725a9f/nvidia_cuda_nvrtc_cu12-12.4.127-py3-none-manylinux2014_x86_64.whl";
    hash = "sha256-oXh1nrsJWCe9MO9WWY7BgrhVR/FQiUGj1WDrfqH78zg=";
  };

  # The guides' version, for who wants it; nixpkgs' own has the security fixes that came later.
  nats-server = {
    version = "2.10.22";
    hash = "sha256-B+fSB3aTXAc/EjKSaFR2clieLNFszA2U2BdMsYJRZFE=";
    vendorHash = "sha256-0VkY1+3tlAfGDt+fhyMbmyT4TN0bw1HVJLi2+mivkrc=";
  };
}
